"""What blocks commonly need, imported once for all of them."""
from __future__ import annotations

import gc
import importlib
import sys

# Not duckdb: most of its versions start a thread when they are imported.
_COMMON = ("encodings.utf_8_sig", "numpy", "pandas", "pyarrow", "pyarrow.parquet", "yaml", "jinja2", "joblib", "cloudpickle",
           "requests")
_OPTIONAL = frozenset(("cloudpickle",))


def load() -> None:
    """Imports them, and has pandas do what it does at its first use; says on stderr what is not there."""
    for name in _COMMON:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if name not in _OPTIONAL:
                print(f"the base environment lacks {name}: {error}", file=sys.stderr)
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        pandas.DataFrame({"a": [1, 2]}).groupby("a").sum()
    gc.collect()
