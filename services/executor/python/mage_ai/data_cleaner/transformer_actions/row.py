"""Actions on rows."""
from __future__ import annotations

import re
from typing import Any, Dict


def drop_duplicates(df: Any, action: Dict[str, Any]) -> Any:
    """One row of each group of equal ones."""
    keep_which = action["action_options"].get("keep", "last")
    return df.drop_duplicates(subset=action["action_arguments"] or None, keep=keep_which)


def matches(df: Any, code: str) -> Any:
    """The rows for which a filter holds: pandas' query language, with `contains` and null tests beside it."""
    found = re.fullmatch(r"\s*(.+?)\s+(not\s+contains|contains)\s+['\"]?(.*?)['\"]?\s*", code, re.IGNORECASE)
    if found:
        column = df[found.group(1).strip("`\"'")].astype(str)
        holds = column.str.contains(found.group(3), regex=False)
        return ~holds if found.group(2).lower().startswith("not") else holds
    found = re.fullmatch(r"\s*(.+?)\s*(==|!=)\s*(null|None|nan)\s*", code, re.IGNORECASE)
    if found:
        missing = df[found.group(1).strip("`\"'")].isna()
        return missing if found.group(2) == "==" else ~missing
    code = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", code))
    return df.eval(code)


def keep(df: Any, action: Dict[str, Any]) -> Any:
    """The rows for which the filter holds."""
    return df[matches(df, action["action_code"])] if action["action_code"].strip() else df


def remove(df: Any, action: Dict[str, Any]) -> Any:
    """Without the rows at these labels."""
    labels = action["action_options"].get("rows") or action["action_arguments"]
    return df.drop(index=labels)


def sort(df: Any, action: Dict[str, Any]) -> Any:
    """In the order of the given columns; missing values last."""
    options = action["action_options"]
    ascendings = options.get("ascendings") or [options.get("ascending", True)] * len(action["action_arguments"])
    return df.sort_values(by=action["action_arguments"], ascending=ascendings, kind="stable")


def limit(df: Any, action: Dict[str, Any]) -> Any:
    """The first rows."""
    given = action["action_options"].get("limit") or (action["action_arguments"] or [len(df)])[0]
    return df.head(int(given))
