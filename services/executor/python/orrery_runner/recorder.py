"""Which functions of a block file carry a decorator.

The injected decorators and the importable ones of `mage_ai.data_preparation.decorators` record into the same place, so
an unguarded import changes nothing. Functions of other modules that a block imports are not recorded.
"""
from __future__ import annotations

import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional

DECORATORS = (
    "callback", "condition", "custom", "data_exporter", "data_loader", "extension", "sensor", "transformer",
    "test", "on_success", "on_failure", "preprocesser", "data_source", "x", "y", "xy", "columns", "configuration", "render",
    "streaming_source", "streaming_sink", "data_integration_source", "data_integration_destination",
    "data_integration_config", "data_integration_query", "data_integration_selected_streams", "data_integration_catalog",
    "collect",
)


class Decorated(NamedTuple):
    """One decorated function."""

    decorator: str
    function: Callable[..., Any]
    arguments: tuple


class Recorder:
    """The decorated functions of one block file, in file order."""

    def __init__(self, namespace: Dict[str, Any]) -> None:
        self.namespace = namespace
        self.entries: List[Decorated] = []

    def of(self, *decorators: str) -> List[Decorated]:
        """Those with one of these decorators."""
        return [entry for entry in self.entries if entry.decorator in decorators]


_active: Optional[Recorder] = None


def activate(recorder: Optional[Recorder]) -> Optional[Recorder]:
    """Makes this the recorder; returns the one before."""
    global _active
    before, _active = _active, recorder
    return before


def make(name: str) -> Callable[..., Any]:
    """The decorator of this name, usable bare and called."""

    def decorator(*given: Any, **options: Any) -> Any:
        namespace = sys._getframe(1).f_globals

        def record(function: Any, arguments: tuple) -> Any:
            if _active is not None and namespace is _active.namespace:
                _active.entries.append(Decorated(name, function, arguments))
            return function

        if len(given) == 1 and not options and callable(given[0]):
            return record(given[0], ())
        return lambda function: record(function, given)

    decorator.__name__ = decorator.__qualname__ = name
    return decorator
