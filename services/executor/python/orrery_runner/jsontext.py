"""JSON texts that a program of ours wrote, read with as little as possible between the text and the standard library's scanner:
every function that a child calls is memory that it copies."""
from __future__ import annotations

import json
from typing import Any

_scan = json.JSONDecoder().scan_once


def parse(text: str) -> Any:
    """The value of a text that holds nothing but JSON, with no space around. Raises ValueError for any other."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("there is no JSON") from None
    if end != len(text):
        raise ValueError(f"something follows the JSON that ends at character {end}")
    return value
