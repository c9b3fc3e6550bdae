"""Transformer actions: ready-made steps on a pandas frame."""
from __future__ import annotations

from typing import Any, Callable, Dict

from mage_ai.data_cleaner.transformer_actions import column, row
from mage_ai.data_cleaner.transformer_actions.constants import ActionType, Axis

_COLUMN: Dict[str, Callable[[Any, Dict[str, Any]], Any]] = {
    **{name: column.aggregate(name) for name in (
        "average", "count", "count_distinct", "first", "last", "max", "median", "min", "mode", "sum")},
    "clean_column_name": column.clean_names, "diff": column.difference, "fix_syntax_errors": column.fix_syntax_errors,
    "impute": column.impute, "normalize": column.normalize, "reformat": column.reformat, "remove": column.remove,
    "remove_outliers": column.remove_outliers, "select": column.select, "shift_down": column.shift(1),
    "shift_up": column.shift(-1), "standardize": column.standardize,
}
_ROW: Dict[str, Callable[[Any, Dict[str, Any]], Any]] = {
    "drop_duplicate": row.drop_duplicates, "filter": row.keep, "remove": row.remove, "sort": row.sort, "limit": row.limit,
}


class BaseAction:
    """One action, ready to be applied."""

    def __init__(self, action: Dict[str, Any]) -> None:
        self.action = {"action_arguments": [], "action_options": {}, "action_code": "", "outputs": [], **action}

    @property
    def action_type(self) -> Any:
        """What it does."""
        return ActionType(str(self.action["action_type"]))

    @property
    def axis(self) -> Any:
        """Whether it works on columns or rows."""
        return Axis(str(self.action.get("axis", "column")))

    def execute(self, df: Any, **_options: Any) -> Any:
        """The frame after the action; the given one stays as it is."""
        known = _ROW if self.axis == Axis.ROW else _COLUMN
        act = known.get(str(self.action_type))
        if act is None:
            raise NotImplementedError(f"the transformer action {self.action_type} on {self.axis}s is not supported here; "
                                      f"write it with pandas. Supported: {', '.join(sorted(known))}")
        return act(df.copy(), self.action)
