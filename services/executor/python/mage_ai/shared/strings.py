"""Small helpers for text that blocks import from Mage."""
from __future__ import annotations

import re
from typing import Any


def is_number(value: Any) -> bool:
    """Whether it can be read as a number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def camel_to_snake_case(name: str) -> str:
    """`someName` as `some_name`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[A-Z][a-z])", "_", name).lower()
