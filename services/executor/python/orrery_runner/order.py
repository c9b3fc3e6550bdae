"""In which order something was written to stdout, to stderr and to the control channel.

Each of the three has an order of its own. Where the next writing goes to another one than the last, it begins with a mark:
a number that rises. Nothing is known here of what is written, and what other processes write has no marks.
"""
from __future__ import annotations

import io
import os
from typing import Any, Optional, Tuple

_last: Any = None
_marks = 0


def turn(channel: Any) -> int:
    """The mark with which this writing begins; 0 where it needs none."""
    global _last, _marks
    if _last is channel:
        return 0
    is_first, _last = _last is None, channel
    if is_first:
        return 0
    _marks += 1
    return _marks


class Stream(io.FileIO):
    """One of the standard streams. A mark in it is `ESC _ 12 ESC \\`."""

    _pipe: Optional[Tuple[int, int]] = None

    def bind(self) -> None:
        """From here on it leads to the executor, which takes the marks out again."""
        self._pipe = self._identity()

    def release(self) -> None:
        """It leads there no more."""
        self._pipe = None

    def _identity(self) -> Optional[Tuple[int, int]]:
        try:
            status = os.fstat(self.fileno())
        except (OSError, ValueError):
            return None
        return status.st_dev, status.st_ino

    def write(self, data: Any) -> Any:
        """As any file, behind a mark where there has to be one. User code may have put a file of its own in place of the
        pipe, which gets none."""
        if _last is not self and self._pipe is not None and self._pipe == self._identity():
            number = turn(self)
            if number:
                os.write(self.fileno(), b"\x1b_%d\x1b\\" % number)
        return super().write(data)
