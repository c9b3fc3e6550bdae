"""Splits SQL text into statements, as far as quotes, comments and dollar quotes require."""
from __future__ import annotations

import re
from typing import List

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | (?P<block>/\*) | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$) | (?P<end>;)""",
    re.VERBOSE | re.DOTALL)
_NESTED = re.compile(r"/\*|\*/")


def split(text: str) -> List[str]:
    """The statements, without their semicolons and without empty ones."""
    found: List[str] = []
    start = position = 0
    while True:
        token = _TOKEN.search(text, position)
        if token is None:
            break
        position = token.end()
        if token.group("block"):
            position = _end_of_comment(text, position)
        elif token.group("dollar"):
            closing = text.find(token.group("dollar"), position)
            position = len(text) if closing < 0 else closing + len(token.group("dollar"))
        elif token.group("end"):
            found.append(text[start:token.start()])
            start = position
    found.append(text[start:])
    return [statement.strip() for statement in found if not is_empty(statement)]


def _end_of_comment(text: str, position: int) -> int:
    depth = 1
    while depth:
        mark = _NESTED.search(text, position)
        if mark is None:
            return len(text)
        depth += 1 if mark.group() == "/*" else -1
        position = mark.end()
    return position


def is_empty(statement: str) -> bool:
    """Whether there are only comments and white space."""
    return not re.sub(r"--[^\n]*|/\*.*?\*/", "", statement, flags=re.DOTALL).strip()
