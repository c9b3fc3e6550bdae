"""A guess at what each column of a frame holds."""
from __future__ import annotations

from typing import Any, Dict

from mage_ai.data_cleaner.column_types.constants import (
    CATEGORICAL_TYPES, NUMBER_TYPES, STRING_TYPES, ColumnType)

__all__ = ["CATEGORICAL_TYPES", "NUMBER_TYPES", "STRING_TYPES", "ColumnType", "infer_column_types"]

_EMAIL = r"[^@\s]+@[^@\s]+\.[^@\s]+"
_PHONE = r"\+?[\d\s().-]{7,20}"
_ZIP = r"\d{5}(-\d{4})?"
_SAMPLE = 2000
_CATEGORIES_MAX = 255


def infer_column_types(df: Any, **_options: Any) -> Dict[str, ColumnType]:
    """The kind of each column."""
    return {name: _infer(df[name]) for name in df.columns}


def _infer(column: Any) -> ColumnType:
    import pandas

    kinds = pandas.api.types
    present = column.dropna()
    if kinds.is_bool_dtype(column.dtype):
        return ColumnType.TRUE_OR_FALSE
    if kinds.is_datetime64_any_dtype(column.dtype):
        return ColumnType.DATETIME
    if kinds.is_numeric_dtype(column.dtype):
        if len(present) and present.nunique() == 2 and set(present.unique()) <= {0, 1}:
            return ColumnType.TRUE_OR_FALSE
        whole = kinds.is_integer_dtype(column.dtype) or bool(len(present)) and bool((present % 1 == 0).all())
        return ColumnType.NUMBER if whole else ColumnType.NUMBER_WITH_DECIMALS
    return _infer_text(present)


def _infer_text(present: Any) -> ColumnType:
    import pandas

    if not len(present):
        return ColumnType.CATEGORY
    if isinstance(present.iloc[0], (list, tuple)):
        return ColumnType.LIST
    text = present.head(_SAMPLE).astype(str)
    for kind, pattern in ((ColumnType.EMAIL, _EMAIL), (ColumnType.ZIP_CODE, _ZIP), (ColumnType.PHONE_NUMBER, _PHONE)):
        if text.str.fullmatch(pattern).mean() > 0.9:
            return kind
    if text.str.lower().isin(("true", "false", "t", "f", "yes", "no", "y", "n")).all():
        return ColumnType.TRUE_OR_FALSE
    if text.str.contains(r"\d{1,4}[-/]\d{1,2}").mean() > 0.9 and pandas.to_datetime(
            text, errors="coerce", format=None).notna().mean() > 0.9:
        return ColumnType.DATETIME
    if text.str.split().str.len().mean() > 5:
        return ColumnType.TEXT
    return ColumnType.CATEGORY if present.nunique() <= _CATEGORIES_MAX else ColumnType.CATEGORY_HIGH_CARDINALITY
