"""A guess at what each column of a frame holds, by the same signs as Mage: people's columns are converted by it."""
from __future__ import annotations

from typing import Any, Dict, Optional

from mage_ai.data_cleaner.column_types.constants import (
    CATEGORICAL_TYPES, NUMBER_TYPES, STRING_TYPES, ColumnType)

__all__ = ["CATEGORICAL_TYPES", "NUMBER_TYPES", "STRING_TYPES", "ColumnType", "find_syntax_errors", "infer_column_types"]

_MONTH = "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?|Oct(?:ober)?|" \
         "Nov(?:ember)?|Dec(?:ember)?"
_CLOCK = r"[Tt ]\d{1,2}:\d{1,2}:?\d{1,2}\.?\d*"
_DATETIME = "|".join((
    r"\d{2,4}-\d{1,2}-\d{1,2}$", rf"\d{{2,4}}-\d{{1,2}}-\d{{1,2}}{_CLOCK}", r"\d{1,4}[-/]\d{1,2}[-/]\d{1,2}$",
    r"\d{1,2}[-/]\d{1,2}[-/]\d{1,4}$", rf"\d{{1,2}}[-/]\d{{1,2}}[-/]\d{{2,4}}{_CLOCK}",
    rf"(?:{_MONTH})\s+\d{{1,2}}[\s,]+\d{{2,4}}"))
_EMAIL = r"[a-zA-Z0-9_.+#-]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+$"
_DIGITS = r"(?:[0-9]+(?:,[0-9]+)*)?"
_INTEGER = rf"-?\s*(?:(?:[$€¥₹£]|Rs|CAD)?\s*{_DIGITS}(?:\.0*)?|{_DIGITS}(?:\.0*)?\s*(?:[元€$]|CAD)?)$"
_NUMBER = rf"-?\s*(?:(?:[$€¥₹£]|Rs|CAD)?\s*{_DIGITS}(?:\.[0-9]*)?|{_DIGITS}(?:\.[0-9]*)?\s*(?:[元€$]|CAD)?)\s*%?$"
_PHONE = r"\s*(?:\+?\d{1,3})?[-. (]*\d{3}[-. )]*\d{3}[-. ]*\d{4}(?: *x\d+)?\s*$"
_ZIP = r"\d{3,5}(?:[-\s]\d{4})?$"
_LIST = r"[\[(][^\n\r]*[\])]$"
_PHONE_WORDS = ("phone", "landline")
_ZIP_WORDS = ("zip", "postal", "zipcode", "postcode")
_SAMPLE_MAX = 100_000
_CATEGORIES_MAX = 255
_WORDS_MAX = 40
# What stands for a value that is missing or wrong is no error itself.
_STANDS_FOR_IT = "invalid|missing"
_CHECKED = {ColumnType.EMAIL: _EMAIL, ColumnType.PHONE_NUMBER: _PHONE, ColumnType.ZIP_CODE: _ZIP}


def infer_column_types(df: Any, column_types: Optional[Dict[Any, Any]] = None,
                       **options: Any) -> Dict[Any, ColumnType]:
    """The kind of each column; those that are given already stay."""
    given = column_types or {}
    sample = df.sample(_SAMPLE_MAX) if len(df) > _SAMPLE_MAX else df
    categories = options.get("category_cardinality_threshold", _CATEGORIES_MAX)
    return {name: given[name] if name in given else _infer(sample[name], str(name).lower(), categories)
            for name in df.columns}


def find_syntax_errors(column: Any, kind: Any) -> Any:
    """The rows whose value cannot be what its column holds."""
    import pandas

    pattern = _CHECKED.get(kind)
    if kind in NUMBER_TYPES and not pandas.api.types.is_numeric_dtype(column.dtype):
        pattern = _NUMBER
    if kind == ColumnType.DATETIME and not pandas.api.types.is_datetime64_any_dtype(column.dtype):
        pattern = _DATETIME
    if pattern is None:
        return pandas.Series(False, index=column.index)
    text = column.astype(str)
    wrong = ~text.str.match(pattern)
    if kind in _CHECKED:
        wrong &= ~text.str.match(_STANDS_FOR_IT)
    return wrong & column.notna()


def _infer(column: Any, name: str, categories: int) -> Optional[ColumnType]:
    import pandas

    types = pandas.api.types
    if types.is_datetime64_any_dtype(column.dtype):
        return ColumnType.DATETIME
    if types.is_bool_dtype(column.dtype):
        return ColumnType.TRUE_OR_FALSE
    if types.is_numeric_dtype(column.dtype):
        kind = _infer_number(column.dropna(), types.is_integer_dtype(column.dtype), name)
    else:
        kind = _infer_text(column, name, categories)
    two = kind in NUMBER_TYPES and column.nunique(dropna=False) == 2
    return ColumnType.TRUE_OR_FALSE if two else kind


def _infer_number(present: Any, is_integer: bool, name: str) -> ColumnType:
    if not len(present):
        return ColumnType.NUMBER_WITH_DECIMALS
    whole = present % 1 == 0
    if "phone" in name and ((present >= 1e9) & (present < 1e12) & whole).mean() >= 0.8:
        return ColumnType.PHONE_NUMBER
    if not is_integer:
        return ColumnType.NUMBER if whole.all() else ColumnType.NUMBER_WITH_DECIMALS
    is_zip = present.min() >= 100 and present.max() <= 99999 and _has(name, _ZIP_WORDS)
    return ColumnType.ZIP_CODE if is_zip else ColumnType.NUMBER


def _has(name: str, words: Any) -> bool:
    return any(word in name for word in words)


def _infer_text(column: Any, name: str, categories: int) -> ColumnType:
    present = column.astype(object).map(lambda cell: cell.strip(" '\"") if isinstance(cell, str) else cell)
    present = present[present.notna() & (present.map(lambda cell: not isinstance(cell, str) or cell != ""))]
    if len(present) and isinstance(present.iloc[0], (list, tuple, set, dict)):
        return ColumnType.LIST
    different = present.nunique()
    if different <= 2:
        return ColumnType.TRUE_OR_FALSE
    if isinstance(present.iloc[0], bool):
        return ColumnType.CATEGORY
    text = present.astype(str)
    few = ColumnType.CATEGORY if different <= categories else ColumnType.CATEGORY_HIGH_CARDINALITY
    if text.str.match(_NUMBER).all():
        return _infer_digits(text, name, few)
    return _infer_words(text, column.nunique(dropna=False), different, name, few)


def _infer_digits(text: Any, name: str, few: ColumnType) -> ColumnType:
    if not text.str.match(_INTEGER).all():
        return ColumnType.NUMBER_WITH_DECIMALS
    if _has(name, _PHONE_WORDS) and text.str.match(_PHONE).mean() >= 0.8:
        return ColumnType.PHONE_NUMBER
    if _has(name, _ZIP_WORDS) and text.str.match(_ZIP).mean() >= 0.8:
        return ColumnType.ZIP_CODE
    longest = text.str.replace(r"\.0*$", "", regex=True).str.len().max()
    return ColumnType.NUMBER if longest < 19 else few


def _infer_words(text: Any, with_missing: int, different: int, name: str, few: ColumnType) -> ColumnType:
    if text.str.match(_DATETIME).mean() >= 0.5:
        return ColumnType.DATETIME
    for kind, pattern, words in ((ColumnType.EMAIL, _EMAIL, None), (ColumnType.PHONE_NUMBER, _PHONE, _PHONE_WORDS),
                                 (ColumnType.ZIP_CODE, _ZIP, _ZIP_WORDS), (ColumnType.LIST, _LIST, None)):
        if (words is None or _has(name, words)) and text.str.match(pattern).mean() >= 0.3:
            return kind
    if with_missing == 2:
        return ColumnType.TRUE_OR_FALSE
    if different / len(text) >= 0.8 or text.str.split(" ").str.len().max() > _WORDS_MAX:
        return ColumnType.TEXT
    return few
