"""What went wrong, as the RESULT that people read: a code, a message, and a traceback that starts in their own file."""
from __future__ import annotations

import errno
import linecache
import os
import traceback
import warnings
from typing import Any, Dict, List, Optional, Tuple

from orrery_runner import current
from orrery_runner.logs import shorten

_RUNNER = os.path.dirname(os.path.abspath(__file__))
_INTERFACE = os.path.join(os.path.dirname(_RUNNER), "mage_ai")
_TRACEBACK_CHARS_MAX = 128 * 1024
# Packages whose modules have another name, as far as data people meet them.
_PACKAGES = {"PIL": "pillow", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "dotenv": "python-dotenv",
             "sklearn": "scikit-learn", "yaml": "pyyaml"}


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


def _is_never_ours(error: Optional[BaseException]) -> bool:
    """Whether it tells of the user's text, wherever it was raised: drivers of databases raise what PEP 249 calls Error."""
    return isinstance(error, SyntaxError) or any(base.__name__ == "Error" for base in type(error).__mro__)


def _trim(summary: traceback.TracebackException, error: BaseException) -> None:
    """Drops our frames; keeps all where nothing else is left and the fault may be ours."""
    seen: set = set()
    pending: List[Tuple[Optional[traceback.TracebackException], Optional[BaseException]]] = [(summary, error)]
    while pending:
        part, raised = pending.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        theirs = [frame for frame in part.stack if not _is_ours(frame.filename)]
        if theirs or _is_never_ours(raised):
            part.stack = traceback.StackSummary.from_list(theirs)
        pending += [(part.__cause__, getattr(raised, "__cause__", None)),
                    (part.__context__, getattr(raised, "__context__", None))]


def _at_home(text: str) -> str:
    """Files of the project as its author knows them: where an executor laid them out helps nobody."""
    repo_path = current.job().get("repo_path")
    return text.replace(repo_path.rstrip(os.sep) + os.sep, "") if repo_path else text


def install_warnings() -> None:
    """Has warnings name files of the project as tracebacks do."""
    python_s = warnings.formatwarning

    def formatted(message: Any, category: Any, filename: str, lineno: int, line: Optional[str] = None) -> str:
        text = linecache.getline(filename, lineno) if line is None else line
        return python_s(message, category, _at_home(filename), lineno, text)

    warnings.formatwarning = formatted  # type: ignore[assignment]


def format_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without our frames."""
    summary = traceback.TracebackException.from_exception(error)
    _trim(summary, error)
    return shorten(_at_home("".join(summary.format())), _TRACEBACK_CHARS_MAX)


def message_of(error: BaseException) -> str:
    """One line: the type and what it says."""
    return _at_home(_message_of(error))


def _message_of(error: BaseException) -> str:
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
    return f"{type(error).__name__}: {text}{_remedy(error)}" if text else type(error).__name__


def _remedy(error: BaseException) -> str:
    """What helps where a package is missing. Who missed a part of one that is there, or of the project, has misspelt it."""
    name = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if not name or name.split(".")[0] != name or str(error) != f"No module named {name!r}":
        return ""
    return f"; if it is a package, add `{_PACKAGES.get(name, name)}` to the project's requirements.txt"


def is_out_of_memory(error: BaseException) -> bool:
    """Python's own, and those of libraries that raise their own kind."""
    return isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryException", "ArrowMemoryError")


def is_disk_full(error: BaseException) -> bool:
    """No space, or over the quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def result_of(error: BaseException, memory_bytes: Optional[int] = None) -> Dict[str, Any]:
    """The RESULT of a job that ended with this exception, in a process that may take so much memory."""
    code = getattr(error, "code", None) if isinstance(error, BlockError) else "USER_CODE"
    if is_out_of_memory(error):
        code = "OUT_OF_MEMORY"
    elif code == "USER_CODE" and is_disk_full(error):
        code = "DISK_FULL"
    # Of ours, only what it tells of has lines that help.
    told = error.__cause__ if isinstance(error, BlockError) else error
    trace = "" if told is None else format_traceback(told)
    message = message_of(error)
    if code == "OUT_OF_MEMORY":
        limit = "" if memory_bytes is None else \
            f"; a process of a block may take {memory_bytes >> 20} MiB here, by `memory_limit` of the executor"
        message = f"out of memory: {message}{limit}"
    return {"outcome": "failed", "code": code, "message": shorten(message, 16 * 1024), "traceback": trace}
