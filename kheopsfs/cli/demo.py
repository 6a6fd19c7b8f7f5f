"""`kheopsfs demo`: a server with sample studies, mounted, and a look at what is there. Nothing stays when it ends.

The server is a process of its own, as it would be in reality, and its address and tokens come the way a test or a
script gets them: from `kheopsfs serve-demo --json`.
"""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from kheopsfs.cli.console import out
from kheopsfs.cli.options import mountpoint_argument
from kheopsfs.config import settle
from kheopsfs.errors import FUSEUnavailableError, KheopsfsError
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.credentials import Token
from kheopsfs.mount import launch, registry, stop
from kheopsfs.mount.environment import check_mountpoint, fuse_problem, mounted

SHOWN_PER_FOLDER = 3
"""Entries of a folder that the tree shows; who wants more has the mount."""

EXPANDED = {"albums": 2, "inbox": 1, "thumbnails": 1, "zip": 1}
"""How many entries of a top folder are looked into; what is below the others is seen there already."""

LONGEST_NAME = 40
"""Characters of a UID, or of where a link leads, that the tree shows."""

SERVER_STOP_DEADLINE = 5.0
"""Seconds for the server to end before it is killed."""

SHOWN_ATTRIBUTES = ("PatientName", "StudyDate", "StudyDescription", "Modality", "SeriesDescription", "SOPClassUID")


@dataclass(frozen=True)
class DemoServer:
    """A running demo server, and a user token for it."""

    url: str
    token: Token


def demo(
    mountpoint: Annotated[
        Path | None, mountpoint_argument("An empty directory. Without it, a temporary one is made.")
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show what is there and end, instead of staying.")] = False,
) -> None:
    """Start a demo server with sample studies, mount it, and show what is there; Ctrl-C ends it all."""
    if problem := fuse_problem():
        raise FUSEUnavailableError(problem)
    # Being asked to end is treated like Ctrl-C: everything below is undone on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _everything_mounted(mountpoint) as root:
        _show(root)
        if once:
            return
        out.print("\n[bold]Ctrl-C unmounts and ends the server.[/]")
        with contextlib.suppress(KeyboardInterrupt):
            _wait_while_mounted(root)


@contextlib.contextmanager
def _everything_mounted(mountpoint: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kheopsfs-demo-") as name:
        folder = Path(name)
        if mountpoint is None:
            mountpoint = folder / "kheops"
            mountpoint.mkdir()
        root = check_mountpoint(mountpoint)
        with _server() as server, _mounted(server, root, folder / "cache"):
            out.print(f"The demo server is {server.url}")
            out.print(f"It is mounted on   {root}\n", markup=False)
            yield root


@contextlib.contextmanager
def _server() -> Iterator[DemoServer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kheopsfs", "serve-demo", "--json"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        # A Ctrl-C is for this process: the server must outlive the mount, not race with it.
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise KheopsfsError(f"The demo server did not start (status {process.wait()}).")
        announcement = json.loads(line)
        yield DemoServer(announcement["url"], Token(announcement["tokens"][0]["token"]))
    finally:
        process.terminate()
        try:
            process.wait(SERVER_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _mounted(server: DemoServer, root: Path, cache: Path) -> Iterator[None]:
    address, _ = parse_address(server.url)
    settings = replace(settle(root, {"cache_dir": str(cache)}, environment={}), url=address.api)
    launch.in_background(settings, server.token)
    daemon = registry.find(root)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if mounted(root) is not None:
            stop.stop(root)
        if daemon is not None and daemon.log is not None:
            daemon.log.unlink(missing_ok=True)


def _wait_while_mounted(root: Path) -> None:
    daemon = registry.find(root)
    process = registry.hold(daemon) if daemon is not None else None
    if process is not None:
        process.wait(None)
        process.close()


def _show(root: Path) -> None:
    from pydicom import dcmread  # noqa: PLC0415 - a quarter of a second that no other command needs

    tree = Tree(Text(str(root), style="bold"))
    for entry in sorted(root.iterdir(), key=lambda entry: (entry.is_dir(), entry.name)):
        branch = tree.add(Text(entry.name, style="bold blue" if entry.is_dir() else ""))
        if entry.is_dir():
            _grow(branch, entry, expanded=EXPANDED.get(entry.name, 0))
    out.print(tree)
    # The longest series is the one worth looking at, and its middle shows most.
    instances = max((sorted(series.iterdir()) for series in root.glob("albums/*/*/*")), key=len)
    instance = instances[len(instances) // 2]
    header = dcmread(instance, stop_before_pixels=True)
    out.print("\n[bold]The header of one instance[/]")
    out.print(Text(f"  {instance}"))
    for keyword in SHOWN_ATTRIBUTES:
        out.print(Text(f"  {keyword:<20} {header.get(keyword, '')}"))
    out.print(f"  {'size':<20} {instance.stat().st_size} bytes")
    out.print("\n[bold]Paths to open[/]")
    study = instance.parent.parent.relative_to(root)
    for path, what in (
        (root / study, "a study: cp -r, rsync, tar, a DICOM viewer"),
        (instance.parent, "a series: dcm2niix, SimpleITK, a folder of DICOM files"),
        (instance, "an instance: dcmdump, gdcminfo, pydicom"),
        (root / "thumbnails" / instance.relative_to(root).with_suffix(".jpg"), "its preview"),
        (root / "zip" / study.parent / f"{study.name}.zip", "the study as the server zips it"),
    ):
        out.print(Text(f"  {path}"))
        out.print(Text(f"      {what}", style="dim"))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME // 2]}…{text[-LONGEST_NAME // 2 :]}"


def _grow(branch: Tree, folder: Path, expanded: int) -> None:
    """Add what is in a folder to a branch: a few entries, and below the first of them what is in those.

    Args:
        branch: what to add to.
        folder: where to look.
        expanded: how many of its folders are looked into. The parallel trees repeat what is seen once.
    """
    entries = sorted(folder.iterdir())
    for position, entry in enumerate(entries[:SHOWN_PER_FOLDER]):
        if entry.is_symlink():
            branch.add(Text(f"{_shortened(entry.name)} → {_shortened(str(entry.readlink()))}"))
        elif not entry.is_dir():
            branch.add(Text(entry.name))
        else:
            below = branch.add(Text(f"{entry.name}/", style="bold blue"))
            if position < expanded:
                _grow(below, entry, expanded=1)
    if len(entries) > SHOWN_PER_FOLDER:
        branch.add(Text(f"… {len(entries) - SHOWN_PER_FOLDER} more", style="dim"))
