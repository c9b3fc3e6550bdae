"""Forks without what Python does after a fork.

`os.fork` lets modules put right in the child what other threads may have left in the middle: locks, lists of threads,
generators of random numbers. A zygote has one thread, which holds no lock when it forks, so there is nothing to put right but
random numbers (`seeds`). Finding that out touches a tenth of all the memory that a child copies, so it is left to the C
library's own fork, which still calls what C libraries have registered.

That holds for the modules named here. When anything else has asked to be told of forks, or may have done so before this module
could notice, forks are Python's own.
"""
from __future__ import annotations

import os
import sys
from typing import Any, Callable, Set

# What they register concerns threads and processes that a zygote does not have, and locks that it does not hold; and what
# the runner's own do is meant for forks of its children.
_NEEDLESS = frozenset((
    "orrery_runner.channel", "orrery_runner.child", "threading", "logging", "random", "concurrent.futures.thread", "multiprocessing.resource_tracker",
    "joblib.externals.loky.backend.resource_tracker"))

# Whatever starts before a zygote (a `.pth` file, a `sitecustomize`) and cares for forks has this one.
_noticed_all = "threading" not in sys.modules
_register = os.register_at_fork
_others: Set[str] = set()
_fork: Callable[[], int] = os.fork


def watch() -> None:
    """Notes from here on who asks to be told of forks. To be called before anything else is imported."""
    os.register_at_fork = _note  # type: ignore[assignment]


def _note(**hooks: Any) -> None:
    name = sys._getframe(1).f_globals.get("__name__", "?")
    if name not in _NEEDLESS:
        _others.add(name)
    _register(**hooks)


def settle() -> None:
    """Decides how to fork, once everything is imported."""
    global _fork
    os.register_at_fork = _register
    if _others or not _noticed_all:
        return
    import ctypes

    try:
        # The interpreter's lock is kept: there is nobody to give it to.
        fork = ctypes.PyDLL(None, use_errno=True).fork
    except (OSError, AttributeError):
        return

    def bare() -> int:
        pid = fork()
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return pid

    _fork = bare


def fork() -> int:
    """The child's process id, or 0 in the child. Python's generator of random numbers is there as in the parent.

    Raises OSError when there is no room for another process."""
    return _fork()
