"""Transformer actions: ready-made steps on a pandas frame."""
from __future__ import annotations

from typing import Any, Callable, Dict

from mage_ai.data_cleaner.column_types.column_type_detector import infer_column_types
from mage_ai.data_cleaner.column_types.constants import ColumnType
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
        defaults: Dict[str, Any] = {"action_arguments": [], "action_options": {}, "action_code": "", "outputs": []}
        self.action = {**defaults, **{key: value for key, value in action.items() if value is not None}}

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
        return df if df.empty else act(df.copy(), self._resolved(df))

    def _resolved(self, df: Any) -> Dict[str, Any]:
        """With the kinds of its columns, and with their names in place of `%{1_1}`."""
        named = {key: feature["feature"] for key, feature in (self.action.get("action_variables") or {}).items()
                 if (feature or {}).get("feature")}
        action = dict(self.action, action_code=_insert(str(self.action["action_code"]), named), action_arguments=[
            _insert(name, named) for name in self.action["action_arguments"]])
        given = {feature["uuid"]: ColumnType(feature["column_type"]) for feature in named.values()
                 if feature.get("column_type")}
        asked = [name for name in dict.fromkeys(action["action_arguments"]) if name in df.columns]
        action["column_types"] = infer_column_types(df[asked], column_types=given) if self.axis == Axis.COLUMN or \
            self.action_type == ActionType.SORT else given
        return action


def _insert(text: Any, named: Dict[str, Any]) -> Any:
    for key, feature in named.items():
        text = text.replace(f"%{{{key}}}", feature["uuid"]) if isinstance(text, str) else text
    return text
