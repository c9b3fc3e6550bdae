"""Descriptions of transformer actions."""
from __future__ import annotations

import keyword
import re
from typing import Any, Dict, List, Optional

from mage_ai.data_cleaner.transformer_actions.constants import ActionType, Axis


def build_transformer_action(df: Any, action_type: Any, arguments: Any = None, action_code: str = "",
                             axis: Any = Axis.COLUMN, options: Optional[Dict[str, Any]] = None,
                             outputs: Optional[List[Dict[str, Any]]] = None, **_options: Any) -> Dict[str, Any]:
    """An action as data, for BaseAction."""
    del df
    return {
        "action_type": ActionType(str(action_type)), "action_arguments": list(arguments if arguments is not None else []),
        "action_code": action_code or "", "axis": Axis(str(axis)), "action_options": dict(options or {}),
        "outputs": list(outputs or [])}


def clean_column_name(name: Any) -> str:
    """Lower case with underscores, a Python name that is no keyword."""
    text = re.sub(r"[\s\-.]+", "_", str(name).strip())
    text = re.sub(r"[^a-zA-Z_0-9]", "", text)
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", text)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).lower()
    text = re.sub(r"_+", "_", text).strip("_")
    if not text or text[0].isdigit():
        text = "letter_" + text
    return text + "_" if keyword.iskeyword(text) else text
