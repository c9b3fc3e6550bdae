"""Actions on columns."""
from __future__ import annotations

from typing import Any, Callable, Dict, List

from mage_ai.data_cleaner.column_types.column_type_detector import find_syntax_errors
from mage_ai.data_cleaner.column_types.constants import NUMBER_TYPES, ColumnType
from mage_ai.data_cleaner.transformer_actions import outliers
from mage_ai.data_cleaner.transformer_actions.constants import ImputationStrategy
from mage_ai.data_cleaner.transformer_actions.row import matches
from mage_ai.data_cleaner.transformer_actions.utils import clean_column_name

_AGGREGATES = {"average": "mean", "count_distinct": "nunique",
               "mode": lambda column: column.mode().iloc[0] if column.notna().any() else None}
_CURRENCY = r"[$€¥₹元£,\s]|Rs|CAD"


def aggregate(name: str) -> Callable[[Any, Dict[str, Any]], Any]:
    """A new column with the group's value in every row of the group; of all rows where no group is named."""

    def act(df: Any, action: Dict[str, Any]) -> Any:
        method = _AGGREGATES.get(name, name)
        groups = action["action_options"].get("groupby_columns") or []
        source = _in_window(df, action["action_options"])
        source = source[matches(source, action["action_code"])] if action["action_code"].strip() else source
        for argument, target in zip(action["action_arguments"], _targets(action, name)):
            if groups:
                values = source.groupby(groups)[argument].agg(method).rename(target).reset_index()
                df = df.drop(columns=[target], errors="ignore").merge(values, on=groups, how="left")
            elif method in ("first", "last"):
                present = source[argument].dropna()
                df[target] = (present.iloc[0] if method == "first" else present.iloc[-1]) if len(present) else None
            else:
                df[target] = source[argument].agg(method)
        return df

    return act


def _in_window(df: Any, options: Dict[str, Any]) -> Any:
    """The rows whose second time is at most `window` seconds before the first; after it, where that is negative."""
    import pandas

    if not all(options.get(key) is not None for key in ("timestamp_feature_a", "timestamp_feature_b", "window")):
        return df
    first, second = (_times(df[options[f"timestamp_feature_{which}"]], utc=True) for which in "ab")
    seconds, window = pandas.Series(first - second).dt.total_seconds(), options["window"]
    return df[seconds.between(*sorted((0, window)))]


def _times(column: Any, **options: Any) -> Any:
    """Times in whatever form each of them is written."""
    import pandas

    mixed = {} if pandas.__version__.startswith("1.") else {"format": "mixed"}
    return pandas.to_datetime(column, **{**mixed, **options})


def _text_columns(df: Any, names: List[str]) -> List[str]:
    """Those that begin with text; the others are left as they are."""
    return [name for name in names if isinstance(next(iter(df[name].dropna()), None), str)]


def _without_blanks(column: Any) -> Any:
    """With nothing where there is nothing but white space."""
    blank = column.map(lambda cell: isinstance(cell, str) and not cell.strip()).astype(bool)
    return column.mask(blank) if blank.any() else column


def _convert(column: Any, kind: Any) -> Any:
    """As the kind of the column wants its values once none is missing."""
    if kind == ColumnType.NUMBER:
        return column.fillna(0).astype("int64")
    if kind == ColumnType.NUMBER_WITH_DECIMALS:
        return column.astype(float)
    if kind == ColumnType.TEXT:
        return column.dropna().astype(str)
    return column


def _targets(action: Dict[str, Any], suffix: str) -> List[str]:
    named = [output["uuid"] for output in action["outputs"]]
    return named or [f"{argument}_{suffix}" for argument in action["action_arguments"]]


def clean_names(df: Any, action: Dict[str, Any]) -> Any:
    """Column names as Python names."""
    return df.rename(columns={name: clean_column_name(name) for name in action["action_arguments"] or df.columns})


def difference(df: Any, action: Dict[str, Any]) -> Any:
    """Each value minus the one before."""
    for argument, target in zip(action["action_arguments"], _targets(action, "diff")):
        df[target] = df[argument].diff()
    return df


def shift(rows: int) -> Callable[[Any, Dict[str, Any]], Any]:
    """The value of another row, within groups if they are named."""

    def act(df: Any, action: Dict[str, Any]) -> Any:
        periods = rows * int(action["action_options"].get("periods", 1))
        groups = action["action_options"].get("groupby_columns") or []
        for argument, target in zip(action["action_arguments"], _targets(action, "shifted")):
            df[target] = df.groupby(groups)[argument].shift(periods) if groups else df[argument].shift(periods)
        return df

    return act


def fix_syntax_errors(df: Any, action: Dict[str, Any]) -> Any:
    """Text that cannot be a value of its column becomes `invalid`; nothing, where the column holds numbers or times."""
    for name in _text_columns(df, action["action_arguments"]):
        kind = action["column_types"].get(name)
        wrong = find_syntax_errors(df[name], kind)
        df.loc[wrong, name] = None if kind in NUMBER_TYPES or kind == ColumnType.DATETIME else "invalid"
    return df


def impute(df: Any, action: Dict[str, Any]) -> Any:
    """Fills missing and blank values by the strategy; then each column has the type of its kind."""
    options, names = action["action_options"], action["action_arguments"]
    strategy = str(options.get("strategy") or ImputationStrategy.CONSTANT)
    if strategy == "no_action":
        return df
    for name in names:
        df[name] = _without_blanks(df[name])
    if strategy == "remove_rows":
        return df.dropna(subset=names)
    if strategy == "sequential" and options.get("timeseries_index"):
        df = df.sort_values(by=options["timeseries_index"], kind="stable")
    for name in names:
        kind = action["column_types"].get(name)
        df[name] = _convert(_filled(df, name, kind, strategy, options), kind)
    return df


def _filled(df: Any, name: str, kind: Any, strategy: str, options: Dict[str, Any]) -> Any:
    column = df[name]
    present = column.dropna()
    if strategy == "constant":
        value = options.get("value")
        return column.fillna(_constant(kind) if value is None else value)
    if strategy == "column":
        return column.fillna(df[options["value"]])
    if strategy == "sequential":
        return column.ffill()
    if not len(present):
        return column
    if strategy in ("average", "median"):
        numbers = present.astype(float)
        return column.fillna(numbers.mean() if strategy == "average" else numbers.median())
    if strategy == "mode":
        return column.fillna(present.mode().iloc[0])
    if strategy == "random":
        drawn = present.sample(len(column), replace=True)
        drawn.index = column.index
        return column.where(column.notna(), drawn)
    raise NotImplementedError(f"the imputation strategy {strategy} is not supported here; fill the column with pandas")


def _constant(kind: Any) -> Any:
    import pandas

    if kind in NUMBER_TYPES:
        return 0
    return {ColumnType.DATETIME: pandas.Timestamp.min, ColumnType.LIST: "[]"}.get(kind, "missing")


def normalize(df: Any, action: Dict[str, Any]) -> Any:
    """To between zero and one."""
    for name in action["action_arguments"]:
        low, high = df[name].min(), df[name].max()
        df[name] = (df[name] - low) / (high - low)
    return df


def standardize(df: Any, action: Dict[str, Any]) -> Any:
    """To mean zero and deviation one, of all rows and not of a sample."""
    for name in action["action_arguments"]:
        df[name] = (df[name] - df[name].mean()) / df[name].std(ddof=0)
    return df


def reformat(df: Any, action: Dict[str, Any]) -> Any:
    """Case, trimming, currency signs or times of text; without any of these blanks become missing."""
    import pandas

    options, names = action["action_options"], action["action_arguments"]
    how = str(options.get("reformat") or "")
    texts = _text_columns(df, names)
    for name in texts:
        if how == "caps_standardization":
            df[name] = df[name].str.upper() if options.get("capitalization") == "uppercase" else df[name].str.lower()
        elif how == "trim":
            df[name] = df[name].str.strip()
        elif how == "currency_to_num":
            df[name] = pandas.to_numeric(df[name].str.replace(_CURRENCY, "", regex=True), errors="coerce").astype(float)
    if how == "date_format_conversion":
        for name in names:
            df[name] = _times(df[name], errors="coerce")
    elif how not in ("trim", "currency_to_num"):
        for name in texts:
            df[name] = _without_blanks(df[name])
    return df


def remove(df: Any, action: Dict[str, Any]) -> Any:
    """Without these columns, as far as there are any."""
    return df.drop(columns=action["action_arguments"], errors="ignore")


def select(df: Any, action: Dict[str, Any]) -> Any:
    """Only these columns."""
    return df[action["action_arguments"]]


def remove_outliers(df: Any, action: Dict[str, Any]) -> Any:
    """Without the rows that are outliers in the numbers among these columns; a row that lacks one of them stays."""
    names = [name for name in action["action_arguments"] if action["column_types"].get(name) in NUMBER_TYPES]
    numbers = df[names].astype(float).dropna()
    if not numbers.size:
        return df
    found = outliers.find(numbers.to_numpy(), str(action["action_options"].get("method", "auto")))
    return df[~df.index.isin(numbers.index[found])]
