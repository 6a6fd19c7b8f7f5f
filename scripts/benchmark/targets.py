"""What is to be reached, as ratios of medians of one run."""

from dataclasses import dataclass

from benchmark import rows
from benchmark.measure import Samples

LOOPBACK, GIGABIT, HUNDRED = "loopback", "1 Gb/s, 20 ms", "100 Mb/s, 40 ms"
SHAPED = {GIGABIT: (1e9, 0.020), HUNDRED: (1e8, 0.040)}
"""Bits per second and seconds of a round trip."""

MOST_MEMORY = 150.0  # MB resident, whatever is read


@dataclass(frozen=True)
class Verdict:
    """One target: `figure` is a ratio, or MB; `met` is None where it was not measured."""

    what: str
    target: str
    figure: float | None
    met: bool | None


def verdicts(samples: Samples) -> list[Verdict]:
    """Every target with what was reached."""

    def ratio(link: str, row: str, peer: str, most: float, base_row: str | None = None) -> Verdict:
        ours, theirs = samples.median(link, row, rows.KHEOPSFS), samples.median(link, base_row or row, peer)
        figure = ours / theirs if ours is not None and theirs else None
        beside = f"{base_row} of {peer}" if base_row else peer
        return Verdict(
            f"{row} / {beside} ({link})", f"≤ {most:.2f}", figure, None if figure is None else figure <= most
        )

    def speed(row: str) -> Verdict:
        ours, theirs = samples.median(LOOPBACK, row, rows.KHEOPSFS), samples.median(LOOPBACK, row, rows.NULL)
        figure = theirs / ours if ours and theirs is not None else None
        return Verdict(
            f"{row}, speed / {rows.NULL} ({LOOPBACK})", "≥ 0.90", figure, None if figure is None else figure >= 0.9
        )

    found = [ratio(link, rows.COLD, rows.ONE_MULTIPART, 1.10) for link in SHAPED]
    found += [
        ratio(LOOPBACK, rows.COLD, rows.ONE_MULTIPART, 3.5),
        ratio(LOOPBACK, rows.COLD, rows.PARALLEL_SINGLE, 0.6),
        ratio(LOOPBACK, rows.COLD, rows.BY_INSTANCE, 0.3),
    ]
    found += [ratio(link, rows.FIRST_OPEN, rows.CURL, 1.3) for link in SHAPED]
    found += [
        ratio(link, row, rows.KHEOPSFS, 1.3, rows.COLD)
        for link in (LOOPBACK, *SHAPED)
        for row in (rows.SCAN, rows.SHUFFLED_SCAN)
    ]
    found += [ratio(LOOPBACK, rows.WARM, rows.LOCAL, 1.8), ratio(LOOPBACK, rows.REMOUNTED, rows.LOCAL, 3.0)]
    requests = samples.median(LOOPBACK, rows.REQUESTS, rows.KHEOPSFS)
    found.append(Verdict(rows.REQUESTS, "0", requests, None if requests is None else requests == 0))
    found += [speed(row) for row in (rows.WARM_STAT, rows.WARM_LIST, rows.WARM_READ)]
    peaks: dict[str, float] = {}
    for one in samples.as_rows():
        if one["peer"] == rows.MEMORY:
            taken = one["taken"]
            assert isinstance(taken, list)
            peaks[str(one["row"])] = max(taken)
    found += [
        Verdict(f"peak memory in MB, up to: {row}", f"≤ {MOST_MEMORY:.0f}", peak, peak <= MOST_MEMORY)
        for row, peak in peaks.items()
    ]
    return [one for one in found if one.met is not None]
