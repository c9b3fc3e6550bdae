"""What is noted of outputs while they are written."""
from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import support  # noqa: F401
import numpy as np
import pandas as pd

from orrery_runner import outputs, preview


class Hostile:
    """Shows itself to nobody."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class Previews(unittest.TestCase):
    def noted(self, write: str, *values: object) -> list:
        folder = tempfile.mkdtemp(prefix="previews-")
        self.addCleanup(shutil.rmtree, folder, True)
        place = os.path.join(folder, "1")
        writer = outputs.Writer(place, "b")
        writer.write(list(values)) if write == "values" else writer.write_parts(outputs.Parts(iter(values)))
        with open(os.path.join(place, preview.FILE), encoding="utf-8") as file:
            return json.load(file)["outputs"]

    def test_tables(self) -> None:
        frame = pd.DataFrame({"n": [1, 2], "when": pd.to_datetime(["2024-01-02", None]), "x": [0.5, float("nan")],
                              "s": ["a", "b" * 300]})
        (note,) = self.noted("values", frame)
        self.assertEqual([name for name, _ in note["columns"]], ["n", "when", "x", "s"])
        self.assertEqual(note["columns"][0][1], "int64")
        self.assertEqual(note["sample"][0], [1, "2024-01-02 00:00:00", 0.5, "a"])
        self.assertEqual(note["sample"][1][1:3], [None, None])
        self.assertEqual(len(note["sample"][1][3]), 201)
        self.assertFalse(note["complete"], "a text was cut")
        (note,) = self.noted("values", pd.DataFrame({"n": range(1000)}))
        self.assertEqual((len(note["sample"]), note["complete"]), (100, False))
        (note,) = self.noted("values", pd.Series([1, 2], name="s"))
        self.assertEqual((note["columns"], note["sample"], note["complete"]), ([["s", "int64"]], [[1], [2]], True))
        twins = pd.DataFrame([[1, "a"]], columns=["same", "same"])
        self.assertEqual(self.noted("values", twins)[0]["sample"], [[1, "a"]])
        wide = pd.DataFrame(np.zeros((3, 70)))
        self.assertEqual((len(self.noted("values", wide)[0]["columns"]), len(self.noted("values", wide)[0]["sample"][0])), (50, 50))

    def test_other_values(self) -> None:
        (note,) = self.noted("values", {"a": [1, {"b": None}], "t": datetime.date(2024, 1, 2)})
        self.assertEqual((json.loads(note["text"]), note["complete"]), ({"a": [1, {"b": None}], "t": "2024-01-02"}, True))
        (note,) = self.noted("values", 1, "two", [3])
        self.assertEqual((note["name"], note["sample"], note["complete"]), ("output_0", [1, "two", [3]], True))
        self.assertEqual(json.loads(note["text"]), [1, "two", [3]])
        first, second = self.noted("values", pd.DataFrame({"a": [1]}), np.zeros((2, 3)))
        self.assertEqual((first["sample"], second["name"]), ([[1]], "output_1"))
        self.assertIn("(2, 3)", second["text"])
        (note,) = self.noted("values", 2 ** 80)
        self.assertEqual(json.loads(note["text"]), str(2 ** 80))
        (note,) = self.noted("values", ["x" * 150] * 5000)
        self.assertLess(len(json.dumps(note)), 40_000)
        self.assertFalse(note["complete"])

    def test_parts_show_the_first_one(self) -> None:
        (note,) = self.noted("parts", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}))
        self.assertEqual((note["sample"], note["complete"]), ([[1]], False))

    def test_what_cannot_be_shown_fails_nothing(self) -> None:
        for value in (Hostile(), {"h": Hostile()}, {Hostile(): 1}):
            self.assertFalse(preview._safely("output_0", value)["complete"])


if __name__ == "__main__":
    unittest.main()
