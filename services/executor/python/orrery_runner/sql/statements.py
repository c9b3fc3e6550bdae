"""Splits SQL text into statements, as far as quotes, comments and dollar quotes require."""
from __future__ import annotations

import re
from typing import List, Optional

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | (?P<block>/\*) | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$) | (?P<end>;)""",
    re.VERBOSE | re.DOTALL)
_NESTED = re.compile(r"/\*|\*/")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME = r"""((?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*))*)"""
# Mage takes the first table that is made; without one the last that rows are put into, and then the last that is changed.
_CREATE = re.compile(r"\s*create\s+(?:or\s+replace\s+)?(?:(?:(?P<temporary>temp|temporary)|unlogged|global|local)\s+)*table\s+"
                     r"(?:if\s+not\s+exists\s+)?(?P<name>" + _NAME + ")", re.IGNORECASE)
_INSERT = re.compile(r"(?:^|[\s)])insert\s+(?:or\s+\w+\s+)?into\s+" + _NAME, re.IGNORECASE)
_UPDATE = re.compile(r"\s*update\s+(?:only\s+)?" + _NAME + r"\s.*?\bset\b", re.IGNORECASE | re.DOTALL)


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
    return not _COMMENT.sub("", statement).strip()


def _bare(statement: str) -> str:
    """Without its comments, and with nothing in its literals: what these say is no SQL."""
    found: List[str] = []
    position = 0
    while True:
        token = _TOKEN.search(statement, position)
        if token is None:
            break
        found.append(statement[position:token.start()])
        text, position = token.group(), token.end()
        if token.group("block"):
            position = _end_of_comment(statement, position)
            found.append(" ")
        elif token.group("dollar"):
            closing = statement.find(text, position)
            position = len(statement) if closing < 0 else closing + len(text)
            found.append("''")
        elif text.startswith("--"):
            found.append(" ")
        else:
            found.append("''" if text.startswith("'") else text)
    found.append(statement[position:])
    return "".join(found)


def outer(statement: str) -> str:
    """What stands in no parentheses."""
    found: List[str] = []
    depth = 0
    for part in re.split(r"([()])", _bare(statement)):
        depth -= part == ")"
        if depth <= 0:
            found.append(part)
        depth += part == "("
    return "".join(found)


def written_table(statements: List[str], lasting: bool = False) -> Optional[str]:
    """The table, as the text names it, whose rows are the output of a raw block that ends without a query; with `lasting`, one
    that is still there when its session has ended."""
    bare = [_bare(statement) for statement in statements]
    made = [found for found in map(_CREATE.match, bare) if found]
    if made:
        return None if lasting and made[0].group("temporary") else made[0].group("name")
    filled = [found for found in map(_INSERT.search, bare) if found] or [
        found for found in map(_UPDATE.match, bare) if found]
    return filled[-1].group(1) if filled else None
