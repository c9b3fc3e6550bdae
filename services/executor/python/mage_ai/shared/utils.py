"""Names as Mage cleans them."""
from __future__ import annotations

import re
from typing import Any, Iterable, Optional

_DROPPED = str.maketrans("", "", "\ufeff\"$\n\r\t")


def clean_name(name: Any, allow_characters: Optional[Iterable[str]] = None, allow_number: bool = False,
               case_sensitive: bool = False) -> str:
    """Letters, digits and underscores, the first no digit, in small letters unless `case_sensitive`."""
    allowed = frozenset(allow_characters or ())
    text = "".join(letter if letter in allowed else re.sub(r"\W", "_", letter) for letter in str(name).translate(_DROPPED))
    if not allow_number and re.match(r"\d", text):
        text = "letter_" + text
    return text if case_sensitive else text.lower()
