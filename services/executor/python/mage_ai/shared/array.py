"""Small helpers for lists that blocks import from Mage."""
from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, List, Optional


def find(condition: Callable[[Any], Any], items: Iterable[Any], map: Optional[Callable[[Any], Any]] = None) -> Any:
    """The first item for which the condition holds, or None."""
    found = [item for item in items if condition(item)][:1]
    return (map(found[0]) if map else found[0]) if found else None


def find_index(condition: Callable[[Any], Any], items: Iterable[Any]) -> int:
    """Where that item is, or -1."""
    return next((position for position, item in enumerate(items) if condition(item)), -1)


def flatten(lists: Iterable[Iterable[Any]]) -> List[Any]:
    """The items of all lists."""
    return [item for items in lists for item in items]


def batch(items: Any, n: int = 1) -> Iterator[Any]:
    """Slices of at most `n` items."""
    return (items[start:start + n] for start in range(0, len(items), n))
