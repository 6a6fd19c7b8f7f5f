"""What the store trusts on disk: folders and files that belong to this user alone.

Everything below the store's folder is mode 0700 (folders) or 0600 (files) whatever the umask of the process, which is
never changed: it is one per process and other threads rely on it. A folder that somebody else owns or could have
written to is not used at all, because a cache is only as honest as everyone who may write it.

`flock` on a folder is how processes agree: the lock goes when the process goes, however it ends.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kheopsfs.errors import CacheUnusableError, DiskFullError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
NOT_OURS_ALONE = 0o077
"""Permission bits that let group or others in."""
WRITABLE_BY_OTHERS = 0o022

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def failure(error: OSError, folder: Path) -> CacheUnusableError | DiskFullError:
    """What the operating system said about the cache at `folder`, as an error a user can act on."""
    if error.errno in NO_ROOM:
        return DiskFullError(
            f"no room left on the disk of the cache {folder} ({errno.errorcode[error.errno]}): "
            "free some space or choose another folder"
        )
    return CacheUnusableError(
        f"the cache folder {folder} cannot be used ({os.strerror(error.errno or errno.EIO)}): "
        "check its permissions or choose another folder for the cache"
    )


def private_folder(folder: Path) -> None:
    """Make `folder` and its missing parents with mode 0700, or see that it is a folder which only this user can write.

    Looser rights to read are taken away; rights to write that others had are a reason to refuse, for what lies inside
    may be theirs.

    Raises:
        CacheUnusableError: it is not a folder (a symbolic link is not one either), or not this user's alone.
        OSError: it can be neither made nor looked at.
    """
    try:
        status = folder.lstat()
    except FileNotFoundError:
        if not folder.parent.exists():
            private_folder(folder.parent)
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        folder.chmod(FOLDER_MODE)  # mkdir is subject to the umask
        return
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUnusableError(f"{folder} is in the way: a folder of the cache belongs there; remove it")
    if status.st_uid != os.geteuid():
        raise CacheUnusableError(
            f"the cache folder {folder} belongs to another user: choose another folder for the cache"
        )
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise CacheUnusableError(
            f"other users can write to the cache folder {folder}: remove it, or choose another folder for the cache"
        )
    if status.st_mode & NOT_OURS_ALONE:
        folder.chmod(FOLDER_MODE)


def is_own_file(status: os.stat_result) -> bool:
    """Whether this is a regular file of this user: no link, pipe, device or folder, and nobody else's."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` against other processes and threads, waiting for it.

    Only for short work that never waits for anything else: whoever stops inside stops everyone.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def lock_if_free(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder` until it is closed, or None while another holds it.

    Raises:
        OSError: there is no such folder, or its file system cannot lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
