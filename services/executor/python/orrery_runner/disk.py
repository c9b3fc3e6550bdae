"""Whole files in as few calls as there can be: text streams and buffers are made for reading a little at a time."""
from __future__ import annotations

import os
from typing import Any

from orrery_runner import jsontext

_READ_BYTES = 64 * 1024


def read(path: str) -> bytes:
    """All of a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while True:
            part = os.read(fd, _READ_BYTES)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(fd)


def read_span(path: str, first: int, end: int) -> bytes:
    """The bytes from `first` to before `end`; fewer where the file ends earlier."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while len(found) < end - first:
            part = os.pread(fd, end - first - len(found), first + len(found))
            if not part:
                break
            found += part
        return found
    finally:
        os.close(fd)


def read_json(path: str) -> Any:
    """The value of a JSON file."""
    return jsontext.parse(str(read(path), "utf-8"))
