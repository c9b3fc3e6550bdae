"""Descriptions of transformer actions."""
from __future__ import annotations

import keyword
import re
from typing import Any, Dict, List, Optional

from mage_ai.data_cleaner.transformer_actions.constants import ActionType, Axis


def build_transformer_action(df: Any, action_type: Any, arguments: Any = None, action_code: str = "",
                             options: Optional[Dict[str, Any]] = None, axis: Any = Axis.COLUMN,
                             outputs: Optional[List[Dict[str, Any]]] = None, **_options: Any) -> Dict[str, Any]:
    """An action as data, for BaseAction."""
    del df
    return {
        "action_type": ActionType(str(action_type)), "action_arguments": list(arguments if arguments is not None else []),
        "action_code": action_code or "", "axis": Axis(str(axis)), "action_options": dict(options or {}),
        "outputs": list(outputs or [])}


def clean_column_name(name: Any) -> str:
    """Small letters with underscores between the words of a name, a Python name that is no keyword."""
    text = _no_keyword(str(name)).strip(" '\"_-")
    text = re.sub(r"[^a-zA-Z_0-9]", "", re.sub(r"[\s\-.]", "_", text))
    if re.fullmatch(r"(?:Rs|CAD)?\d*|\d*CAD", text):
        text = "number_" + text
    text = _no_keyword(text)
    if re.fullmatch(r"[A-Z0-9]+", text):
        return text.lower()
    if re.fullmatch(r"[a-z]*(?:[A-Z][a-z]*)+", text):
        text = "_".join(re.findall(r"^[a-z]+|[A-Z][a-z]*", text))
    return text.lower()


def _no_keyword(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name
