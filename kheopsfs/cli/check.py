"""`kheopsfs check`: what this token is, what it may do, and whether this machine can mount.

Everything is looked at, whatever fails on the way; what failed is said at the end, and the first failure gives the exit
status.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from kheopsfs.cli.access import Access, gain_access
from kheopsfs.cli.console import out, plain, report
from kheopsfs.cli.options import Auth, InsecureHttp, Target, TokenFile
from kheopsfs.errors import CacheUnusableError, FUSEUnavailableError, KheopsfsError
from kheopsfs.mount.environment import (
    GOOD_READ_AHEAD,
    fuse_problem,
    fuse_version,
    mount_table,
    read_ahead_setting,
)

Rows = list[tuple[str, str]]
"""Titles and texts."""


def check(
    url: Target,
    *,
    token_file: TokenFile = None,
    auth: Auth = None,
    cache_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", show_default="~/.cache/kheopsfs", help="The cache directory to look at."),
    ] = None,
    insecure_http: InsecureHttp = False,
) -> None:
    """Say what a token is, what it may do, when it expires if known, and whether FUSE works here.

    Mounts nothing and changes nothing.
    """
    flags = {
        "token_file": token_file,
        "auth": auth,
        "cache_dir": cache_dir,
        "insecure_http": "true" if insecure_http else None,
    }
    access = gain_access(url, Path.cwd(), flags)
    rows: Rows = [("server", access.address.api)]
    failures = [
        failure
        for look in (lambda: _look_at_token(access), _look_at_fuse, lambda: _look_at_cache(access.settings.cache_dir))
        if (failure := _collect(look, rows)) is not None
    ]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for title, text in rows:
        table.add_row(Text(title, style="bold"), plain(text))
    out.print(table, soft_wrap=False)
    for failure in failures:
        report(failure)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _collect(look: Callable[[], Rows], rows: Rows) -> KheopsfsError | None:
    try:
        rows.extend(look())
    except KheopsfsError as error:
        return error
    return None


def _look_at_token(access: Access) -> Rows:
    from kheopsfs.cli.inquiry import inquire  # noqa: PLC0415 - half a second of imports that no other command needs

    return inquire(access)


def _look_at_fuse() -> Rows:
    if problem := fuse_problem():
        raise FUSEUnavailableError(problem)
    return [("FUSE", f"works here (version {fuse_version()})"), *_look_at_read_ahead()]


def _look_at_read_ahead() -> Rows:
    """Advice for mounts that read large files slower than they could, where this user may change it."""
    rows: Rows = []
    for entry in mount_table():
        setting = read_ahead_setting(entry)
        if entry.is_ours and os.access(setting, os.W_OK) and int(setting.read_text()) < GOOD_READ_AHEAD:
            rows.append(
                ("read-ahead", f"small on {entry.mountpoint}; large files are read up to 5 times as fast after")
            )
            rows.append(("", f"echo {GOOD_READ_AHEAD} > {setting}"))  # a line of its own: it can be copied
    return rows


def _look_at_cache(directory: Path) -> Rows:
    if not directory.exists():
        nearest = next(parent for parent in directory.parents if parent.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise CacheUnusableError(f"The cache directory {directory} cannot be made: {nearest} is not writable.")
        return [("cache", f"{directory} (not there yet)")]
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise CacheUnusableError(f"The cache directory {directory} is not a directory that you can write to.")
    return [("cache", f"{directory} ({_disk_usage(directory) / 1024**2:.0f} MiB used)")]


def _disk_usage(directory: Path) -> int:
    """Bytes on disk. Mounts may be using the cache meanwhile, so files may vanish."""
    used = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                used += (Path(folder) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return used
