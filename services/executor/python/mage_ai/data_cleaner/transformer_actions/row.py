"""Actions on rows."""
from __future__ import annotations

import ast
import operator
import re
from typing import Any, Dict

from mage_ai.data_cleaner.column_types.constants import NUMBER_TYPES

_NAME = r"(`[^`]+`|\"[^\"]+\"|'[^']+'|[^\s()\"'`]+)"
_COMPARISON = re.compile(rf"{_NAME}\s+([!=<>]+|not\s+contains|contains)\s+(\"[^\"]*\"|'[^']*'|{_NAME})")
_OPERATORS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
              ">=": operator.ge}
_WORDS = {"true": True, "false": False, "none": None, "nan": None, "null": None}


def drop_duplicates(df: Any, action: Dict[str, Any]) -> Any:
    """One row of each group of equal ones."""
    keep_which = action["action_options"].get("keep", "last")
    return df.drop_duplicates(subset=action["action_arguments"] or None, keep=keep_which)


def matches(df: Any, code: str) -> Any:
    """The rows for which a filter holds: comparisons of columns, with `contains` and `null`, joined as pandas joins them."""
    code = re.sub(r"(?<= )true\b", "True", re.sub(r"(?<= )false\b", "False", code))
    for name in sorted((str(name) for name in df.columns if re.search(r"\s", str(name))), key=len, reverse=True):
        code = re.sub(rf"(?<![`\"'\w]){re.escape(name)}(?![`\"'\w])", f"`{name}`", code)
    found: Dict[str, Any] = {}

    def compared(comparison: Any) -> str:
        column, how, value = comparison.group(1).strip("`\"'"), comparison.group(2), comparison.group(3)
        if column not in df.columns:
            return str(comparison.group())
        found[f"comparison_{len(found)}"] = _compare(df, column, " ".join(how.split()).lower(), value)
        return f"comparison_{len(found) - 1}"

    joined = _COMPARISON.sub(compared, code)
    return df.assign(**found).eval(joined, engine="python").astype(bool)


def _compare(df: Any, name: str, how: str, value: str) -> Any:
    column = df[name]
    if how.endswith("contains"):
        if not column.dropna().map(type).isin((str,)).all():
            raise TypeError(f"column {name} is not text, so a filter cannot say what it contains")
        holds = column.notna() & column.str.contains(value.strip("`\"'"), na=False)
        return ~holds if how.startswith("not") else holds
    if how in ("==", "!=") and value.lower() in ("null", "none", "nan"):
        missing = column.isna() | (column.map(type) == str) & (column == "")
        return missing if how == "==" else ~missing
    other = value.strip("`\"'")
    return _OPERATORS[how](column, df[other] if other in df.columns else _literal(value))


def _literal(value: str) -> Any:
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise ValueError(f"{value} is no column; text in a filter stands in quotes") from None


def keep(df: Any, action: Dict[str, Any]) -> Any:
    """The rows for which the filter holds."""
    return df[matches(df, action["action_code"])] if action["action_code"].strip() else df


def remove(df: Any, action: Dict[str, Any]) -> Any:
    """Without the rows at these labels, as far as there are any."""
    labels = action["action_options"].get("rows") or action["action_arguments"]
    return df.drop(index=[label for label in labels if label in df.index])


def sort(df: Any, action: Dict[str, Any]) -> Any:
    """In the order of the given columns. Numbers sort as such even where they are text; rows without the first one are the
    smallest."""
    import pandas

    options, names, kinds = action["action_options"], action["action_arguments"], action["column_types"]
    ascendings = options.get("ascendings") or [options.get("ascending", True)] * len(names)
    if not names:
        return df
    numbers = [name for name in names if kinds.get(name) in NUMBER_TYPES]
    keys = df[names].copy()
    for name in numbers:
        keys[name] = pandas.to_numeric(keys[name].mask(keys[name].astype(str) == ""))
    order = keys.reset_index(drop=True).sort_values(
        by=names, ascending=ascendings, kind="stable",
        na_position="first" if names[0] in numbers and ascendings[0] else "last").index
    return df.iloc[order]


def limit(df: Any, action: Dict[str, Any]) -> Any:
    """The first rows."""
    given = action["action_options"].get("limit") or (action["action_arguments"] or [len(df)])[0]
    return df.head(int(given))
