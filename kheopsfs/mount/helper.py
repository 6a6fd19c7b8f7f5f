"""FUSE's helper, which clears the mountpoint when this process is killed, and a race that it loses.

With `auto_unmount`, libfuse leaves a `fusermount3` running that waits at the other end of a socket. When this process
dies the kernel closes our descriptors; the helper then opens the mountpoint and unmounts only if that says ENOTCONN.
But the kernel lets go of descriptors from the highest number down (measured). If the socket is above `/dev/fuse`, the
helper may look while the mount still has a connection, gets another error, and leaves a dead mount behind: 3 of 25
kills. Below it, the mount is dead before the helper wakes.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def woken_last() -> Iterator[None]:
    """Mount in the body of the `with`: libfuse's socket to the helper gets a lower number than `/dev/fuse`."""
    low = os.open(os.devnull, os.O_RDONLY)
    try:
        before = _sockets()
        yield
        for descriptor in _sockets() - before:
            os.dup2(descriptor, low, inheritable=False)
            os.close(descriptor)
            return
    except BaseException:
        os.close(low)
        raise
    os.close(low)


def _sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - numbers, not paths
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found.add(number)
        except OSError:  # the descriptor with which the list was read
            continue
    return found
