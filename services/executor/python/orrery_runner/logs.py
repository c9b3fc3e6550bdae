"""The logging module's records as frames, and the logger that blocks get in their kwargs."""
from __future__ import annotations

import logging
import sys
from typing import Any, Optional

from orrery_runner import order
from orrery_runner.channel import Channel, ChannelClosed

MESSAGE_CHARS_MAX = 256 * 1024


def shorten(text: str, limit: int = MESSAGE_CHARS_MAX) -> str:
    """Keeps the start of a text that is too long for a frame, and says so."""
    return text if len(text) <= limit else text[:limit] + f"… ({len(text) - limit} more characters)"


class FrameHandler(logging.Handler):
    """Sends each record over the control channel; a process without it (a fork) prints to stderr."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises into user code."""
        try:
            message = shorten(self.format(record))
            if self._channel.is_open:
                frame = {"type": "log", "level": record.levelname, "message": message, "at": record.created}
                mark = order.turn(self._channel)
                if mark:
                    frame["mark"] = mark
                self._channel.send(frame)
            else:
                print(message, file=sys.stderr)
        except (ChannelClosed, RecursionError):
            pass
        except Exception:
            self.handleError(record)


_handler: Optional[FrameHandler] = None


def install(channel: Channel) -> None:
    """Makes the root logger send frames."""
    global _handler
    _handler = FrameHandler(channel)
    root = logging.getLogger()
    root.handlers[:] = [_handler]
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False


def restore(channel: Channel) -> None:
    """Puts our handler back if user code reconfigured logging, for the next job of the same process."""
    root = logging.getLogger()
    if _handler is None or _handler not in root.handlers:
        install(channel)


def set_level(level: Optional[str]) -> None:
    """Records below it make no lines; without one, those below INFO."""
    # Setting one goes through all loggers that there are, to empty what each remembers.
    if level or logging.root.level != logging.INFO:
        logging.root.setLevel(level or logging.INFO)


class BlockLogger:
    """`kwargs['logger']`: like a logger, and any further keyword becomes part of the line."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger(self._name)

    def _log(self, level: int, message: Any, args: tuple, fields: dict) -> None:
        known = {key: fields.pop(key) for key in ("exc_info", "stack_info", "extra") if key in fields}
        error = fields.pop("error", None)
        if isinstance(error, BaseException):
            known.setdefault("exc_info", error)
        elif error is not None:
            fields["error"] = error
        for key in ("tags", "logging_tags"):
            tags = fields.pop(key, None)
            if isinstance(tags, dict):
                fields.update(tags)
            elif tags is not None:
                fields[key] = tags
        text = str(message)
        if args:
            try:
                text = text % args
            except (TypeError, ValueError):
                text = " ".join([text, *map(str, args)])
        if fields:
            text += " " + " ".join(f"{key}={value}" for key, value in fields.items())
        self._logger.log(level, "%s", text, **known)

    def log(self, level: int, message: Any, *args: Any, **fields: Any) -> None:
        """At a level of `logging`."""
        self._log(level, message, args, fields)

    def debug(self, message: Any, *args: Any, **fields: Any) -> None:
        """Below what is shown by default."""
        self._log(logging.DEBUG, message, args, fields)

    def info(self, message: Any, *args: Any, **fields: Any) -> None:
        """The ordinary level."""
        self._log(logging.INFO, message, args, fields)

    def warning(self, message: Any, *args: Any, **fields: Any) -> None:
        """Something to look at."""
        self._log(logging.WARNING, message, args, fields)

    warn = warning

    def error(self, message: Any, *args: Any, **fields: Any) -> None:
        """Something failed."""
        self._log(logging.ERROR, message, args, fields)

    def critical(self, message: Any, *args: Any, **fields: Any) -> None:
        """Something failed badly."""
        self._log(logging.CRITICAL, message, args, fields)

    fatal = critical

    def exception(self, message: Any, *args: Any, **fields: Any) -> None:
        """With the traceback of the exception being handled."""
        fields.setdefault("exc_info", True)
        self._log(logging.ERROR, message, args, fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._logger, name)
