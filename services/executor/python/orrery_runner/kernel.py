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
_MADV_COLLAPSE = 25
_HUGE_PAGE_BYTES = 2 * 1024 * 1024
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
    _prctl(_PR_SET_NAME, name.encode("utf-8", "replace"), 0, 0, 0)


def be_killed_first() -> None:
    """When the machine runs out of memory, the kernel takes this process or one that it forks, and nobody else's."""
    try:
        with open("/proc/self/oom_score_adj", "wb") as score:
            score.write(b"1000")
    except OSError:
        pass


def use_huge_pages() -> None:
    """Asks the kernel to keep this process's memory in huge pages. A fork copies the table of its pages, and an exit takes it
    apart: fewer pages make both cheaper. What a child writes to is copied in small pages all the same."""
    madvise = getattr(_libc, "madvise", None)
    if madvise is None:
        return
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            lines = [line.split(maxsplit=5) for line in maps]
    except OSError:
        return
    for line in lines:
        if line[1] == "rw-p" and (len(line) == 5 or line[5].strip() == "[heap]"):
            start, _, end = line[0].partition("-")
            first = -(-int(start, 16) // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
            # Page by page: one that cannot be collapsed, being empty say, must not keep the others from it.
            for address in range(first, int(end, 16) - _HUGE_PAGE_BYTES + 1, _HUGE_PAGE_BYTES):
                madvise(address, _HUGE_PAGE_BYTES, _MADV_COLLAPSE)


def few_malloc_arenas() -> None:
    """One arena a thread reserves 64 MiB of address space each, which a limit by address space would count."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


class MemoryLimit:
    """A limit on what this process maps beyond what the warm interpreter has mapped already."""

    def __init__(self, headroom_bytes: int) -> None:
        self.headroom_bytes = headroom_bytes
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
