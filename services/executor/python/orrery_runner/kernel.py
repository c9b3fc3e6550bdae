"""The few system calls that the standard library lacks, and limits; each is best effort where libc lacks it too."""
from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
from typing import Callable, Optional

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_M_ARENA_MAX = -8
_SIGKILL = int(signal.SIGKILL)
_RESERVE_BYTES = 8 * 1024 * 1024

try:
    _libc: Optional[ctypes.CDLL] = ctypes.CDLL(None, use_errno=True)
except OSError:
    _libc = None
_prctl: Callable[..., int] = getattr(_libc, "prctl", lambda *_: -1)


def die_with_parent() -> None:
    """Has the kernel kill this process when the zygote dies, even by SIGKILL."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        os._exit(70)


def set_name(name: str) -> None:
    """The name that `ps` shows; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode("utf-8", "replace")[:15], 0, 0, 0)


def few_malloc_arenas() -> None:
    """One arena a thread reserves 64 MiB of address space each, which a limit by address space would count."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


class MemoryLimit:
    """A limit on what this process maps beyond what the warm interpreter has mapped already."""

    def __init__(self, headroom_bytes: int) -> None:
        with open("/proc/self/statm", "rb") as statm:
            mapped = int(statm.read().split()[0]) * resource.getpagesize()
        # Untouched, so it costs nothing but is there to be given back when a failure must be reported.
        self._reserve: Optional[mmap.mmap] = mmap.mmap(-1, _RESERVE_BYTES)
        limit = mapped + headroom_bytes + _RESERVE_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def release_reserve(self) -> None:
        """Makes room to report a MemoryError."""
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
