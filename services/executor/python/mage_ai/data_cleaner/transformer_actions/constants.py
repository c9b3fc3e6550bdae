"""Names of the transformer actions and of their options."""
from __future__ import annotations

import enum
from typing import Any


class _Name(str, enum.Enum):
    def __str__(self) -> str:
        return str(self.value)


def _names(title: str, names: str) -> Any:
    return _Name(title, [(name.upper(), name) for name in names.split()])


ActionType = _names(
    "ActionType",
    "add average clean_column_name count count_distinct custom diff drop_duplicate expand_column explode filter first "
    "fix_syntax_errors group impute join last limit max median min mode reformat remove remove_outliers scale select "
    "shift_down shift_up sort sum union update_type update_value normalize standardize")
Axis = _names("Axis", "column row")
VariableType = _names("VariableType", "feature feature_set feature_set_version")


class ImputationStrategy(_Name):
    """How missing values are filled."""

    AVERAGE = "average"
    COLUMN = "column"
    CONSTANT = "constant"
    MEDIAN = "median"
    MODE = "mode"
    NOOP = "no_action"
    RANDOM = "random"
    ROW_RM = "remove_rows"
    SEQ = "sequential"


class Operator(_Name):
    """Comparisons of filters."""

    CONTAINS = "contains"
    NOT_CONTAINS = "not contains"
    EQUALS = "=="
    NOT_EQUALS = "!="
    GREATER_THAN = ">"
    GREATER_THAN_OR_EQUALS = ">="
    LESS_THAN = "<"
    LESS_THAN_OR_EQUALS = "<="
