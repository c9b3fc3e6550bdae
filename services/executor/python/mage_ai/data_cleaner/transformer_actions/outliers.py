"""Which rows are outliers, as Mage finds them: with scikit-learn, where the project has it."""
from __future__ import annotations

from typing import Any

_SHARE_MIN, _SHARE_MAX = 0.025, 0.15
_DIMENSIONS_MAX = 20
METHODS = ("auto", "itree", "lof")


def find(values: Any, method: str) -> Any:
    """A flag for each row of a matrix of numbers."""
    if method not in METHODS:
        raise ValueError(f"the method {method!r} to find outliers is not one of {', '.join(METHODS)}")
    try:
        from sklearn.decomposition import PCA
        from sklearn.ensemble import IsolationForest
        from sklearn.neighbors import LocalOutlierFactor
    except ImportError:
        raise ImportError("removing outliers needs the package scikit-learn; add it to the project's requirements.txt"
                          ) from None
    count, dimensions = values.shape
    share = min(max(_share(values), _SHARE_MIN), _SHARE_MAX)
    if dimensions > _DIMENSIONS_MAX:
        values = PCA(n_components=_DIMENSIONS_MAX, random_state=42).fit_transform(values)
    if method == "itree" or method == "auto" and dimensions > 5:
        found = IsolationForest(contamination=share, n_estimators=100, random_state=42)
    else:
        found = LocalOutlierFactor(n_neighbors=_neighbours(count, share), contamination=share)
    return found.fit_predict(values) == -1


def _share(values: Any) -> float:
    """The rows of which half of the columns lie outside of one and a half quartile distances."""
    import numpy

    low, high = numpy.quantile(values, 0.25, axis=0), numpy.quantile(values, 0.75, axis=0)
    reach = 1.5 * (high - low)
    outside = (values < low - reach) | (values > high + reach)
    return float((outside.mean(axis=1) >= 0.5).mean())


def _neighbours(count: int, share: float) -> int:
    if count < 500:
        return 2 if count < 10 else count // 10 + 1
    return 20 if share <= 0.1 else 35
