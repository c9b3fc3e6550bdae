"""Names of column kinds."""
from __future__ import annotations

import enum


class ColumnType(str, enum.Enum):
    """What a column holds."""

    CATEGORY = "category"
    CATEGORY_HIGH_CARDINALITY = "category_high_cardinality"
    DATETIME = "datetime"
    EMAIL = "email"
    LIST = "list"
    NUMBER = "number"
    NUMBER_WITH_DECIMALS = "number_with_decimals"
    PHONE_NUMBER = "phone_number"
    TEXT = "text"
    TRUE_OR_FALSE = "true_or_false"
    ZIP_CODE = "zip_code"

    def __str__(self) -> str:
        return str(self.value)


NUMBER_TYPES = frozenset((ColumnType.NUMBER, ColumnType.NUMBER_WITH_DECIMALS))
CATEGORICAL_TYPES = frozenset((ColumnType.CATEGORY, ColumnType.CATEGORY_HIGH_CARDINALITY, ColumnType.TRUE_OR_FALSE))
STRING_TYPES = frozenset((ColumnType.EMAIL, ColumnType.PHONE_NUMBER, ColumnType.TEXT, ColumnType.ZIP_CODE))
