"""Base classes of streaming sources and sinks; streaming pipelines run elsewhere."""
from __future__ import annotations

from typing import Any, Callable, Dict, List


class _Stream:
    def __init__(self, config: Any = None, **options: Any) -> None:
        self.config = config
        self.options = options
        self.init_client()

    def init_client(self) -> None:
        """Connects; for subclasses."""

    def destroy(self) -> None:
        """Disconnects; for subclasses."""


class BaseSource(_Stream):
    """Where messages come from."""

    def read(self, handler: Callable[..., Any]) -> None:
        """Message by message; for subclasses."""
        raise NotImplementedError

    def batch_read(self, handler: Callable[..., Any]) -> None:
        """Batch by batch; for subclasses."""
        raise NotImplementedError


class BasePythonSource(BaseSource):
    """A source written in a block."""


class BaseSink(_Stream):
    """Where messages go."""

    def write(self, message: Dict[str, Any]) -> None:
        """One message; for subclasses."""
        raise NotImplementedError

    def batch_write(self, messages: List[Dict[str, Any]]) -> None:
        """A batch; for subclasses."""
        raise NotImplementedError


class BasePythonSink(BaseSink):
    """A sink written in a block."""
