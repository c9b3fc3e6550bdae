"""What went wrong, as the RESULT that people read: a code, a message, and a traceback that starts in their own file."""
from __future__ import annotations

import errno
import os
import traceback
from typing import Any, Dict, List, Optional

from orrery_runner.logs import shorten

_RUNNER = os.path.dirname(os.path.abspath(__file__))
_INTERFACE = os.path.join(os.path.dirname(_RUNNER), "mage_ai")
_TRACEBACK_CHARS_MAX = 128 * 1024


class BlockError(Exception):
    """The block cannot be run, or did not keep its side; the message is for its author and no traceback helps."""

    code = "USER_CODE"


class TestsFailed(BlockError):
    """At least one `@test` function failed."""

    code = "TEST_FAILED"


class OutputError(BlockError):
    """What the block returned cannot be stored."""

    code = "OUTPUT"


class DiskFull(BlockError):
    """The outputs did not fit."""

    code = "DISK_FULL"


def _is_ours(filename: str) -> bool:
    return filename.startswith((_RUNNER + os.sep, _INTERFACE + os.sep, "<frozen "))


def _trim(summary: traceback.TracebackException) -> None:
    """Drops our frames; keeps all where nothing else is left, since then the fault is ours."""
    seen: set = set()
    pending: List[Optional[traceback.TracebackException]] = [summary]
    while pending:
        part = pending.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        theirs = [frame for frame in part.stack if not _is_ours(frame.filename)]
        if theirs:
            part.stack = traceback.StackSummary.from_list(theirs)
        pending += [part.__cause__, part.__context__]


def format_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without our frames."""
    summary = traceback.TracebackException.from_exception(error)
    _trim(summary)
    return shorten("".join(summary.format()), _TRACEBACK_CHARS_MAX)


def message_of(error: BaseException) -> str:
    """One line: the type and what it says."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in {error.filename}, line {error.lineno}: {error.msg}"
    if isinstance(error, BlockError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"the block called exit with code {error.code!r}"
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own, and those of libraries that raise their own kind."""
    return isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryException", "ArrowMemoryError")


def is_disk_full(error: BaseException) -> bool:
    """No space, or over the quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def result_of(error: BaseException) -> Dict[str, Any]:
    """The RESULT of a job that ended with this exception."""
    code = getattr(error, "code", None) if isinstance(error, BlockError) else "USER_CODE"
    if is_out_of_memory(error):
        code = "OUT_OF_MEMORY"
    elif code == "USER_CODE" and is_disk_full(error):
        code = "DISK_FULL"
    trace = ""
    if not isinstance(error, BlockError) or error.__cause__ is not None:
        trace = format_traceback(error)
    message = message_of(error)
    if code == "OUT_OF_MEMORY":
        message = f"out of memory: {message}"
    return {"outcome": "failed", "code": code, "message": shorten(message, 16 * 1024), "traceback": trace}
