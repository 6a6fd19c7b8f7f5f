"""What a run found: a table for people, JSON for programs, one picture, and the last results in the documentation."""

import json
import os
import platform
import time
from pathlib import Path

from benchmark import rows
from benchmark.measure import Samples
from benchmark.targets import GIGABIT, HUNDRED, LOOPBACK, verdicts

BEGIN, END = "<!-- results: written by scripts/bench -->", "<!-- end of results -->"

_COLOURS = {rows.KHEOPSFS: "#c0392b"}


def tables(samples: Samples) -> str:
    """Two tables in Markdown: medians, and targets."""
    lines = ["| link | what | who | median |", "| --- | --- | --- | ---: |"]
    for one in samples.as_rows():
        taken = one["taken"]
        assert isinstance(taken, list)
        lines.append(f"| {one['link']} | {one['row']} | {one['peer']} | {_figure(one)} |")
    lines += ["", "| ratio in this run | target | measured | |", "| --- | --- | ---: | --- |"]
    for verdict in verdicts(samples):
        lines.append(
            f"| {verdict.what} | {verdict.target} | {verdict.figure:.2f} | {'met' if verdict.met else '**missed**'} |"
        )
    return "\n".join(lines) + "\n"


def _figure(one: dict[str, object]) -> str:
    median = float(str(one["median"]))
    if one["peer"] == rows.MEMORY:
        return f"{median:.0f} MB"
    if one["row"] == rows.CPU:
        return f"{median:.2f} s"
    if one["row"] == rows.REQUESTS:
        return f"{median:.0f}"
    return f"{median:.3f} s" if median >= 0.1 else f"{median * 1000:.2f} ms"


def write(samples: Samples, docs: Path) -> None:
    """Write JSON, the picture, and the tables into the documentation."""
    document = {
        "when": time.strftime("%Y-%m-%d"),
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release().partition("-")[0],
            "python": platform.python_version(),
        },
        "figures": samples.as_rows(),
        "targets": [vars(verdict) for verdict in verdicts(samples)],
    }
    (docs / "benchmarks.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    draw(samples, docs / "benchmarks.svg")
    page = docs / "benchmarks.md"
    head, _, rest = page.read_text().partition(BEGIN)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {document['when']}.\n\n"
    page.write_text(f"{head}{BEGIN}\n\n{machine}{tables(samples)}\n{END}{rest.partition(END)[2]}")


def draw(samples: Samples, target: Path) -> None:
    """Cold copies over each link, and the copies after the first, as bars."""
    import matplotlib as mpl  # noqa: PLC0415  # slow to import, and not needed by a run that draws nothing

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "kheopsfs"  # the same figures make the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = [
        (link, row)
        for link, row in (
            (LOOPBACK, rows.COLD),
            (GIGABIT, rows.COLD),
            (HUNDRED, rows.COLD),
            (LOOPBACK, rows.WARM),
            (LOOPBACK, rows.REMOUNTED),
        )
        if samples.median(link, row, rows.KHEOPSFS) is not None
    ]
    if not panels:
        return
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 1.9 * len(panels)), layout="constrained", squeeze=False)
    for axis, (link, row) in zip(axes[:, 0], panels, strict=True):
        bars = {
            str(one["peer"]): float(str(one["median"]))
            for one in samples.as_rows()
            if (one["link"], one["row"]) == (link, row) and one["peer"] != rows.MEMORY
        }
        names = sorted(bars, key=bars.__getitem__, reverse=True)
        drawn = axis.barh(
            names, [bars[name] for name in names], color=[_COLOURS.get(name, "#7f8c8d") for name in names]
        )
        axis.bar_label(drawn, fmt="%.2f s", padding=3)
        axis.set_title(f"{row} · {link}", loc="left", fontsize=10)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, metadata={"Date": None})
