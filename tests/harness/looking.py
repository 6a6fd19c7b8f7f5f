"""What tests ask of a server's request log and of a tree of files, mounted or plain."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from harness.server import DemoServer

UID = r"[0-9.]+"
RETRIEVAL = re.compile(rf"/api/wado|/api/studies/{UID}(/series/{UID}(/instances/{UID})?)?")
"""Requests for bytes: instances, whole series, pictures, zips. Everything else below /api is a list or about tokens."""
LIST = re.compile(rf"/api/(albums|studies|studies/{UID}/series(/{UID}/(instances|metadata))?)")


def retrievals(server: DemoServer) -> list[dict[str, Any]]:
    """The requests for bytes since the log was cleared."""
    return [entry for entry in server.requests() if RETRIEVAL.fullmatch(entry["path"])]


def lists(server: DemoServer) -> list[dict[str, Any]]:
    """The requests for lists since the log was cleared."""
    return [entry for entry in server.requests() if LIST.fullmatch(entry["path"])]


def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """Wait until a condition holds; its first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    """Whether a process is there, and is more than what its parent has yet to collect of it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """All regular files below a folder, in order of their paths."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by its path in it."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(folder)}


def xattr(path: Path, name: str) -> str:
    """An extended attribute of the user's namespace."""
    return os.getxattr(path, f"user.{name}", follow_symlinks=False).decode()


def only(paths: Iterator[Path] | Sequence[Path]) -> Path:
    """The one path that a pattern fits."""
    found = list(paths)
    assert len(found) == 1, found
    return found[0]


def by_uid(mounted: Path) -> dict[str, Path]:
    """Every instance below a folder of a mount by its SOPInstanceUID; opens no file."""
    return {xattr(path, "dicom.SOPInstanceUID"): path for path in files(mounted, "*.dcm")}


def original(server: DemoServer, token: str, path: Path, client: httpx.Client) -> bytes:
    """What the server itself sends for an instance of the mount, asked for without kheopsfs."""
    query = {
        "requestType": "WADO",
        "studyUID": xattr(path, "dicom.StudyInstanceUID"),
        "seriesUID": xattr(path, "dicom.SeriesInstanceUID"),
        "objectUID": xattr(path, "dicom.SOPInstanceUID"),
        "contentType": "application/dicom",
        "transferSyntax": "*",
    }
    answer = client.get(
        f"{server.url.removesuffix('/')}/api/wado",
        params=query,
        headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
    )
    answer.raise_for_status()
    return answer.content


def waits_for_mount(native_thread_id: int) -> bool:
    """Whether a thread of this process is inside a request to a FUSE file system."""
    try:
        return "request_wait_answer" in Path(f"/proc/self/task/{native_thread_id}/wchan").read_text()
    except FileNotFoundError:
        return False
