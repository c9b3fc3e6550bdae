"""Values through the output directory and back, type by type."""
from __future__ import annotations

import datetime
import decimal
import os
import shutil
import sys
import tempfile
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import support
import numpy as np
import pandas as pd

from orrery_runner import outputs
from orrery_runner.failures import OutputError


class RoundTrips(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="trips-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.number = 0

    def trip(self, *values: object) -> list:
        self.number += 1
        place = os.path.join(self.folder, str(self.number))
        self.entries = outputs.Writer(place, "b").write(list(values))
        return outputs.read(place)

    def same(self, value: object, kind: str = "") -> None:
        (got,) = self.trip(value)
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(got, value)
        elif isinstance(value, pd.Series):
            pd.testing.assert_series_equal(got, value)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(got, value)
            self.assertEqual(got.dtype, value.dtype)
        else:
            self.assertEqual(got, value)
        self.assertIs(type(got), type(value))
        if kind:
            self.assertEqual(self.entries[0]["kind"], kind)

    def test_plain(self) -> None:
        for value in (0, -1, 2**80, 1.5, True, "", "é\n\0", [], {}, [[1, [None]], {"a": {"b": []}}], {"": None}):
            self.same(value, "json")

    def test_what_json_lacks(self) -> None:
        for value in (float("inf"), b"\0\xff", datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
                      datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc), datetime.date(2024, 1, 2),
                      datetime.timedelta(days=-1, microseconds=3), decimal.Decimal("1.10"), uuid.UUID(int=7),
                      {1: "a", (2, 3): {"b"}}, {"t": (1, 2), "f": frozenset([1]), "__orrery__": "x"}, {"s": "\ud800"}):
            self.same(value)
        (got,) = self.trip(float("nan"))
        self.assertNotEqual(got, got)

    def test_frames(self) -> None:
        frame = pd.DataFrame({
            "i8": np.array([1, 2, 3], dtype="int8"), "u64": np.array([1, 2, 2**63], dtype="uint64"),
            "f32": np.array([1.5, np.nan, 3], dtype="float32"), "ok": [True, False, True], "s": ["a", None, "é"],
            "o": pd.Series(["a", None, "c"], dtype=object), "st": pd.array(["a", None, "c"], dtype="string"),
            "dt": pd.to_datetime(["2024-01-01", None, "2024-01-03"]) + pd.Timedelta("4us"),
            "tz": pd.to_datetime(["2024-01-01", None, "2024-06-03"]).tz_localize("Europe/Berlin"),
            "td": pd.to_timedelta([1, None, 3], unit="s"), "cat": pd.Categorical(["b", "a", None], ["b", "a", "z"], True),
            "Int": pd.array([1, None, 3], dtype="Int64"), "Bool": pd.array([True, None, False], dtype="boolean"),
            "Float": pd.array([1.5, None, 2], dtype="Float32"),
            "json": [{"a": [1, {"b": None}]}, None, [1, "x"]], "mixed": [1, "a", 2.5], "days": [datetime.date(2024, 1, 1)] * 3,
            "dec": [decimal.Decimal("1.1"), None, decimal.Decimal("22.22")], "ints": pd.Series([1, None, 3], dtype=object),
            "per": pd.period_range("2024-01", periods=3, freq="M"), "by": [b"a", b"", None],
            "times": [datetime.time(1, 2, 3)] * 3, "tup": [(1, 2), (3,), ()],
        })
        self.same(frame, "dataframe")
        self.same(frame.set_index("s"))
        self.same(frame[["i8"]].set_index(pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")], names=["x", None])))
        self.same(frame.iloc[::2])
        self.same(frame.iloc[:0])
        self.same(pd.DataFrame())
        self.same(pd.DataFrame(index=[3, 4]))
        self.same(pd.DataFrame({"a": [1.0]}, index=pd.DatetimeIndex(["2024-01-01"], name="when")))
        self.same(pd.DataFrame({"e": pd.Series([None, None], dtype=object)}))

    def test_labels(self) -> None:
        self.same(pd.DataFrame([[1, 2], [3, 4]]))
        self.same(pd.DataFrame([[1, 2]], columns=["a", "a"]))
        self.same(pd.DataFrame([[1, 2]], columns=[1, "a"]))
        self.same(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["p", None])))
        self.same(pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="n")))
        self.same(pd.DataFrame([[1, 2]], columns=pd.to_datetime(["2024-01-01", "2024-01-02"])), "custom_object")

    def test_what_parquet_lacks(self) -> None:
        self.same(pd.DataFrame({"c": [1 + 2j]}), "custom_object")
        self.same(pd.DataFrame({"c": pd.arrays.SparseArray([0, 0, 1])}))

    def test_series(self) -> None:
        self.same(pd.Series([1, 2], name="x", index=["a", "b"]), "series_pandas")
        self.same(pd.Series(["a", None]))
        self.same(pd.Series([{"a": 1}, [2]], name=("x", 1)))

    def test_attrs(self) -> None:
        frame, series = pd.DataFrame({"a": [1]}), pd.Series([1], name="s")
        circle: list = []
        circle.append(circle)
        kept = {"unit": "m", 1: (2, {"x": datetime.date(2024, 1, 1)}), "n": np.int64(3), "none": None}
        frame.attrs = {**kept, "object": object(), "frame": series}
        frame.attrs["circle"] = circle
        (got,) = self.trip(frame)
        self.assertEqual((self.entries[0]["kind"], got.attrs), ("dataframe", kept))
        self.assertEqual(type(got.attrs["n"]), np.int64)
        self.assertEqual(len(frame.attrs), 7, "those of the block's own frame stay")
        series.attrs = {"unit": "m"}
        (got,) = self.trip(series)
        self.assertEqual((got.name, got.attrs), ("s", {"unit": "m"}))
        (got,) = self.trip(pd.DataFrame({"a": [1]}))
        self.assertEqual(got.attrs, {})

    def test_arrays(self) -> None:
        self.same(np.arange(6, dtype="int16").reshape(2, 3), "ndarray")
        self.same(np.array(["a", "bc"]), "ndarray")
        self.same(np.array([1, "a"], dtype=object), "custom_object")
        for value in (np.int64(3), np.float32(0.1), np.bool_(True), np.float64("inf")):
            self.same(value, "tagged")

    def test_containers(self) -> None:
        frame = pd.DataFrame({"a": [1]})
        (got,) = self.trip({"f": frame, "n": [np.arange(3), {"o": complex(1, 2)}], "t": (frame, 1)})
        pd.testing.assert_frame_equal(got["f"], frame)
        pd.testing.assert_frame_equal(got["t"][0], frame)
        self.assertEqual((got["n"][0].tolist(), got["n"][1]["o"]), ([0, 1, 2], 1 + 2j))
        self.assertEqual(self.entries[0]["kind"], "dictionary_complex")
        values = [complex(i) for i in range(500)]
        self.assertEqual(self.trip(*values), values)
        self.assertEqual(len(self.entries), 1)
        self.assertEqual(self.trip(1, "a", None, [2]), [1, "a", None, [2]])

    def test_refusals(self) -> None:
        with self.assertRaisesRegex(OutputError, "output_0 of block b.*generator"):
            self.trip((x for x in ()))
        deep: list = []
        for _ in range(1000):
            deep = [deep]
        with self.assertRaisesRegex(OutputError, "levels deep"):
            self.trip(deep)
        self.assertEqual(os.listdir(self.folder), [])

    def test_polars(self) -> None:
        polars = support.library(self, "polars")
        frame = polars.DataFrame({"a": [1, None], "l": [[1], [2, 3]], "s": ["x", "y"]})
        (got,) = self.trip(frame)
        self.assertTrue(got.equals(frame))
        (got,) = self.trip(frame["l"])
        self.assertTrue(got.equals(frame["l"]))
        self.assertEqual(self.entries[0]["kind"], "series_polars")

    def test_models_and_matrices(self) -> None:
        support.library(self, "sklearn")
        import scipy.sparse
        from sklearn.linear_model import LinearRegression

        (got,) = self.trip(LinearRegression().fit([[1], [2]], [1, 2]))
        self.assertAlmostEqual(got.predict([[3]])[0], 3)
        self.assertEqual(self.entries[0]["kind"], "model_sklearn")
        for matrix in (scipy.sparse.csr_matrix([[0, 1]]), scipy.sparse.lil_matrix([[0, 1]])):
            (got,) = self.trip(matrix)
            self.assertEqual((got.format, got.toarray().tolist()), (matrix.format, [[0, 1]]))
            self.assertEqual(self.entries[0]["kind"], "matrix_sparse")

    def test_xgboost(self) -> None:
        xgboost = support.library(self, "xgboost")
        import numpy

        x, y = numpy.arange(20.0).reshape(-1, 1), numpy.arange(20.0) > 9
        booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, y), 5)
        (got,) = self.trip(booster)
        self.assertEqual(self.entries[0]["kind"], "model_xgboost")
        self.assertEqual(got.predict(xgboost.DMatrix(x)).tolist(), booster.predict(xgboost.DMatrix(x)).tolist())
        model = xgboost.XGBClassifier(n_estimators=3).fit(x, y)
        got, rows = self.trip(model, 20)
        self.assertEqual((type(got), rows), (type(model), 20))
        self.assertEqual(got.predict(x).tolist(), model.predict(x).tolist())


if __name__ == "__main__":
    unittest.main()
