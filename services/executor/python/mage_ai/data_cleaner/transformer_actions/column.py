"""Actions on columns."""
from __future__ import annotations

from typing import Any, Callable, Dict, List

from mage_ai.data_cleaner.transformer_actions.constants import ImputationStrategy
from mage_ai.data_cleaner.transformer_actions.row import matches
from mage_ai.data_cleaner.transformer_actions.utils import clean_column_name

_AGGREGATES = {"average": "mean", "count_distinct": "nunique",
               "mode": lambda column: column.mode().iloc[0] if column.notna().any() else None}


def aggregate(name: str) -> Callable[[Any, Dict[str, Any]], Any]:
    """A new column with the group's value in every row of the group; of all rows where no group is named."""

    def act(df: Any, action: Dict[str, Any]) -> Any:
        method = _AGGREGATES.get(name, name)
        groups = action["action_options"].get("groupby_columns") or []
        source = df[matches(df, action["action_code"])] if action["action_code"].strip() else df
        for argument, target in zip(action["action_arguments"], _targets(action, name)):
            if groups:
                values = source.groupby(groups, dropna=False)[argument].agg(method).rename(target)
                df = df.drop(columns=[target], errors="ignore").join(values, on=groups)
            elif method in ("first", "last"):
                present = source[argument].dropna()
                df[target] = (present.iloc[0] if method == "first" else present.iloc[-1]) if len(present) else None
            else:
                df[target] = source[argument].agg(method)
        return df

    return act


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
    """What cannot be read as its column's kind becomes missing."""
    import pandas

    kinds = action["action_options"].get("column_types") or {}
    for name in action["action_arguments"]:
        kind = str(kinds.get(name, ""))
        if kind.startswith("number"):
            df[name] = pandas.to_numeric(df[name], errors="coerce")
        elif kind == "datetime":
            df[name] = pandas.to_datetime(df[name], errors="coerce")
        elif df[name].dtype == object or str(df[name].dtype).startswith("str"):
            df[name] = df[name].map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    return df


def impute(df: Any, action: Dict[str, Any]) -> Any:
    """Fills missing values by the strategy."""
    options = action["action_options"]
    strategy = str(options.get("strategy", ImputationStrategy.CONSTANT))
    names = action["action_arguments"]
    if strategy == "no_action":
        return df
    if strategy == "remove_rows":
        return df.dropna(subset=names)
    for name in names:
        df[name] = _filled(df[name], strategy, options)
    return df


def _filled(column: Any, strategy: str, options: Dict[str, Any]) -> Any:
    import pandas

    numeric = pandas.api.types.is_numeric_dtype(column.dtype)
    present = column.dropna()
    if strategy == "constant":
        return column.fillna(options.get("value", 0 if numeric else "missing"))
    if not len(present):
        return column
    if strategy in ("average", "median"):
        if not numeric:
            raise TypeError(f"column {column.name} is not a number and has no {strategy}")
        return column.fillna(present.mean() if strategy == "average" else present.median())
    if strategy == "mode":
        return column.fillna(present.mode().iloc[0])
    if strategy == "sequential":
        return column.ffill()
    if strategy == "random":
        drawn = present.sample(len(column), replace=True)
        drawn.index = column.index
        return column.where(column.notna(), drawn)
    raise NotImplementedError(f"the imputation strategy {strategy} is not supported here; fill the column with pandas")


def normalize(df: Any, action: Dict[str, Any]) -> Any:
    """To between zero and one."""
    for name in action["action_arguments"]:
        low, high = df[name].min(), df[name].max()
        df[name] = (df[name] - low) / (high - low) if high != low else 0.0
    return df


def standardize(df: Any, action: Dict[str, Any]) -> Any:
    """To mean zero and deviation one."""
    for name in action["action_arguments"]:
        deviation = df[name].std()
        df[name] = (df[name] - df[name].mean()) / deviation if deviation else 0.0
    return df


def reformat(df: Any, action: Dict[str, Any]) -> Any:
    """Case, trimming or currency signs of text."""
    import pandas

    options = action["action_options"]
    how = str(options.get("reformat", ""))
    for name in action["action_arguments"]:
        column = df[name].astype("string")
        if how == "caps_standardization":
            df[name] = column.str.upper() if options.get("capitalization") == "uppercase" else column.str.lower()
        elif how == "trim":
            df[name] = column.str.strip()
        elif how == "currency_to_num":
            df[name] = pandas.to_numeric(column.str.replace(r"[^\d.\-]", "", regex=True), errors="coerce")
        elif how == "date_format_conversion":
            df[name] = pandas.to_datetime(column, errors="coerce")
        else:
            raise NotImplementedError(f"the reformat {how or '(none)'} is not supported here; write it with pandas")
    return df


def remove(df: Any, action: Dict[str, Any]) -> Any:
    """Without these columns."""
    return df.drop(columns=action["action_arguments"])


def select(df: Any, action: Dict[str, Any]) -> Any:
    """Only these columns."""
    return df[action["action_arguments"]]


def remove_outliers(df: Any, action: Dict[str, Any]) -> Any:
    """Without the rows whose value is outside of 1.5 quartile distances."""
    for name in action["action_arguments"]:
        low, high = df[name].quantile(0.25), df[name].quantile(0.75)
        reach = 1.5 * (high - low)
        df = df[df[name].isna() | df[name].between(low - reach, high + reach)]
    return df
