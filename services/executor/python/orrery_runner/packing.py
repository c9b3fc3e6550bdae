"""Has what is loaded next, and what a child allocates, lie close together.

Imports leave the memory of a process full of small holes, and what is loaded afterwards goes into them. A forked child copies
the whole page around each object that it touches, if only to count a reference: of objects that lie scattered, a page each. So
the zygote fills the holes before it loads what every child runs, and again before it forks, and has the code that every child
runs lie in one place. That costs about three megabytes, once for all children.

What is loaded before lies in one stretch: between libraries, which are mapped as they are loaded, there would be room only for
a little at a time, and so for no huge pages.
"""
from __future__ import annotations

import ctypes
import gc
import sys
import types
from typing import Any, Callable, Dict, Iterator, List

# CPython allocates up to this length itself, in classes of one alignment each and in pools of this length at most; the C
# library does the rest.
_SMALL_MAX, _ALIGNMENT, _POOL_BYTES = 512, 16, 16 * 1024
# The C library maps longer ones each on its own.
_LARGE_MAX, _CACHED_MAX = 64 * 1024, 1040
# Where an allocator works otherwise than thought, that many are enough.
_COUNT_MAX = 4096

# About as much as everything that is imported takes, and a little less than the allocator maps at once.
_STRETCH_BYTES = 36 * 1024 * 1024
_STEP_BYTES = (960 if sys.version_info >= (3, 10) else 240) * 1024

_held: List[bytes] = []
_stretch: List[Any] = []


def reserve() -> None:
    """Takes a stretch of memory for the objects that come next. Before libraries are loaded."""
    # As long as it will be: a list that grows would lie in between.
    pieces: List[Any] = [None] * (_STRETCH_BYTES // _SMALL_MAX)
    payload = _SMALL_MAX - sys.getsizeof(b"")
    for number in range(len(pieces)):
        pieces[number] = bytes(payload)
    # The others leave their room to whatever comes; these keep it from being given back.
    _stretch.extend(pieces[:: _STEP_BYTES // _SMALL_MAX])


def release() -> None:
    """Gives back what nothing has come for."""
    _stretch.clear()


def fill() -> None:
    """Takes every hole that an object would go into, for good."""
    for length in range(3 * _ALIGNMENT, _SMALL_MAX + 1, _ALIGNMENT):
        _held.extend(_until_in_a_row(length))
    # The list itself has left some, where it was shorter.
    _fill_large()


def _until_in_a_row(length: int) -> Iterator[bytes]:
    """Until one begins a pool behind another one that was empty as well."""
    payload = length - sys.getsizeof(b"")
    row = before = 0
    for _ in range(_COUNT_MAX):
        piece = bytes(payload)
        gap = id(piece) - before - length
        before = id(piece)
        # Between two pools are a header, and the rest of a pool that was too short.
        row = row + length if 0 <= gap <= length + 64 else 0
        yield piece
        if row >= _POOL_BYTES and gap:
            return


def _fill_large() -> None:
    """The largest holes first, or what is left of one would be a hole again. What comes from no hole lies behind everything."""
    try:
        libc = ctypes.CDLL(None)
        malloc, free, sbrk = libc.malloc, libc.free, libc.sbrk
    except (OSError, AttributeError):
        return
    malloc.argtypes, free.argtypes, sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_ssize_t]
    malloc.restype = sbrk.restype = ctypes.c_void_p
    # The one for which there was no room came from the end, and so did those right before it.
    border, first, last = sbrk(0), 0, 0
    for _ in range(_COUNT_MAX):
        piece = malloc(_LARGE_MAX - 8)
        first, last = (first if piece - last == _LARGE_MAX else piece), piece
        if sbrk(0) != border:
            break
    for piece in range(last, first - 1, -_LARGE_MAX):
        free(piece)
    for length in (*range(_LARGE_MAX, _CACHED_MAX, -4 * _ALIGNMENT), *range(_CACHED_MAX, _ALIGNMENT, -_ALIGNMENT)):
        for _ in range(_COUNT_MAX):
            piece = malloc(length - 8)
            if piece >= first:
                # It joins the end again; a short one would be kept for the next of its length.
                if length > _CACHED_MAX:
                    free(piece)
                break


def gather(run: Callable[[], None]) -> None:
    """Has the code of whatever this runs lie together: each call counts a reference to it."""
    found: Dict[int, types.CodeType] = {}

    def note(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "call":
            found[id(frame.f_code)] = frame.f_code

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    # By what they are and not by what they equal: alike code of two files is not the same.
    moved: Dict[int, types.CodeType] = {}
    for code in found.values():
        _move(code, found, moved)
    for function in gc.get_objects():
        if type(function) is types.FunctionType and id(function.__code__) in moved:
            function.__code__ = moved[id(function.__code__)]


def _move(code: types.CodeType, found: Dict[int, types.CodeType], moved: Dict[int, types.CodeType]) -> types.CodeType:
    if id(code) not in moved:
        constants = tuple(_move(inner, found, moved) if id(inner) in found else inner for inner in code.co_consts)
        moved[id(code)] = code.replace(co_consts=constants)
    return moved[id(code)]
