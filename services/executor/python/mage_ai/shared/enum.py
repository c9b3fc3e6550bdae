"""Names that are text."""
from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["Enum", "IntEnum", "StrEnum"]


class StrEnum(str, Enum):
    """Members are their own text."""

    def __str__(self) -> str:
        return str(self.value)
