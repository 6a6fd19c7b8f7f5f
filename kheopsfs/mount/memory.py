"""What this process holds in memory, a token and patients' images, stays there: it leaves no core file when it crashes.

Two settings, because each has a gap. A limit of zero keeps the kernel from writing a core file, but not from piping it
to a program (core(5)); such a program may heed the limit or not. A process that is not *dumpable* is not dumped in
either way, and other processes of the same user can neither attach to it nor read its memory; but executing another
program makes it dumpable again, while the limit is inherited. The price: a debugger or profiler takes root.
"""

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def keep_to_ourselves() -> None:
    """Leave no core file from here on."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
