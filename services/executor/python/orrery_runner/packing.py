"""Has what is loaded next lie close together.

Imports leave the memory of a process full of small holes, and what is loaded afterwards goes into them. A forked child copies
the whole page around each object that it touches, if only to count a reference: of objects that lie scattered, a page each. So
the zygote fills the holes before it loads what every child runs. That costs about two megabytes, once for all children, and
spares each child a twelfth of what it would copy.
"""
from __future__ import annotations

import sys
from typing import Iterator, List

# CPython allocates up to this length itself, in classes of one alignment each; the C library does the rest.
_SMALL_MAX, _ALIGNMENT = 512, 16
# The large ones first, or what is left of a large hole would be a hole again.
_LARGE = tuple(range(4096, 1024, -256)) + tuple(range(1024, _SMALL_MAX, -_ALIGNMENT))
# So many in a row, each right behind the one before, are no longer in holes.
_ROW = 24
# Where an allocator works otherwise than thought, that many are enough.
_COUNT_MAX = 1024

_held: List[bytes] = []


def fill() -> None:
    """Takes every hole that an object of the usual lengths would go into, for good."""
    for length in (*_LARGE, *range(3 * _ALIGNMENT, _SMALL_MAX + 1, _ALIGNMENT)):
        _held.extend(_until_in_a_row(length))


def _until_in_a_row(length: int) -> Iterator[bytes]:
    payload = length - sys.getsizeof(b"")
    row = before = 0
    for _ in range(_COUNT_MAX):
        piece = bytes(payload)
        # Between two may be a header, or the rest of a page that was too short.
        row = row + 1 if 0 < id(piece) - before <= 2 * length + 64 else 0
        before = id(piece)
        yield piece
        if row == _ROW:
            return
