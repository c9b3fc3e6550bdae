"""Python blocks through the real zygote: loading, arguments, kwargs, outputs, tests, sensors, dynamic, callbacks."""
from __future__ import annotations

import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import ProjectCase

HEADER = """
if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader
if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test
"""


class Loading(ProjectCase):
    def test_a_warning_names_the_file_as_its_author_knows_it(self) -> None:
        self.block("old", """
import warnings
@data_loader
def load():
    warnings.warn('that is over')
""")
        self.ok("old")
        self.assertEqual(self.last.text("stderr"), "data_loaders/old.py:5: UserWarning: that is over\n"
                                                   "  warnings.warn('that is over')\n")

    def test_a_chain_passes_frames_and_tests(self) -> None:
        self.block("load", HEADER + """
import pandas as pd
@data_loader
def load(*args, **kwargs):
    print('hello')
    return pd.DataFrame({'a': [1, 2, 3], 'b': ['x', None, 'z']})
@test
def has_rows(df, *args):
    assert len(df) == 3
""")
        result = self.ok("load")
        self.assertEqual([(o["name"], o["kind"], o["rows"]) for o in result["outputs"]],
                         [("output_0", "dataframe", 3)])
        self.assertGreater(result["outputs"][0]["size_bytes"], 100)
        self.assertEqual(self.last.text(), "hello\n")
        self.assertIn("1/1 tests passed", [entry["message"] for entry in self.last.logs])
        self.block("double", """
from mage_ai.data_preparation.decorators import transformer, test
from shop.utils.maths import twice
import utils.maths
@transformer
def double(df, **kwargs):
    assert df is df_1 and load is df
    return [twice(df.a).sum(), {'k': [1, {'z': None}]}]
@transformer
def ignored(df):
    raise AssertionError
@test
def both(total, other, **kwargs):
    assert total == 12 and kwargs['block_uuid'] == 'double'
""", "transformer", upstream=["load"])
        self.file("utils/__init__.py", "")
        self.file("utils/maths.py", "def twice(x): return x * 2\n")
        self.ok("double")
        self.assertEqual(self.stored("double"), [12, {"k": [1, {"z": None}]}])
        self.block("last", "@data_exporter\ndef f(pair, *args):\n    assert pair == [12, {'k': [1, {'z': None}]}], pair\n",
                   "data_exporter", upstream=["double"])
        self.assertEqual(self.ok("last")["outputs"], [])
        self.assertFalse(os.path.exists(self.dir_of("last")))
        self.block("after", "@custom\ndef f(nothing):\n    return nothing == []\n", "custom", upstream=["last"])
        self.ok("after")
        self.assertEqual(self.stored("after"), [True])

    def test_kwargs(self) -> None:
        self.block("k", """
import datetime, os
@data_loader
def f(*args, **kwargs):
    from mage_ai.settings.repo import get_repo_path
    assert get_repo_path() == kwargs['repo_path'] == os.environ['MAGE_RUNTIME__REPO_PATH']
    kwargs['logger'].info('seen', rows=3)
    kwargs['logger'].log(30, 'odd', rows=4)
    return {key: str(value) if isinstance(value, datetime.datetime) else value for key, value in kwargs.items()
            if key not in ('logger', 'repo_path')}
""", configuration={"mine": 1})
        self.ok("k", variables={"env": "x", "own": [1], "interval_start_datetime": "2024-02-29T00:00:00+01:00",
                                "event": {"a": 1}},
                event={"b": 2, "own": "hidden"}, dynamic_block_index=0, attempt_number=3)
        got = self.stored("k")[0]
        self.assertEqual(got, {
            "env": "prod", "own": [1], "interval_start_datetime": "2024-02-28 23:00:00+00:00", "event":
            {"a": 1, "b": 2, "own": "hidden"}, "a": 1, "b": 2, "ds": "2024-02-29", "hr": "13",
            "execution_date": "2024-02-29 13:14:15.123456+00:00", "execution_partition": "3/20240229T131415",
            "trigger_name": "nightly", "configuration": {"mine": 1}, "context": {}, "pipeline_uuid": "sales",
            "block_uuid": "k", "retry": {"attempts": 3}, "pipeline_run_id": "00000000-0000-0000-0000-000000000001",
            "dynamic_block_index": 0})
        self.assertIn(("INFO", "seen rows=3"), [(entry["level"], entry["message"]) for entry in self.last.logs])
        self.assertIn(("WARNING", "odd rows=4"), [(entry["level"], entry["message"]) for entry in self.last.logs])

    def test_errors_name_the_place(self) -> None:
        self.block("broken", "@data_loader\ndef f(:\n    pass\n")
        result = self.fails("broken", "USER_CODE", "SyntaxError in data_loaders/broken.py, line 2")
        self.assertIn('File "data_loaders/broken.py", line 2', result["traceback"])
        self.assertNotIn("orrery_runner", result["traceback"])
        self.block("none", "@transformer\ndef f(): pass\n" if False else "def f(): pass\n")
        self.fails("none", "USER_CODE", "@data_loader", "none.py")
        self.block("missing")
        self.fails("missing", "USER_CODE", "missing.py", "does not exist")
        self.block("raises", "@data_loader\ndef f():\n    return {}['key']\n")
        result = self.fails("raises", "USER_CODE", "KeyError: 'key'")
        self.assertNotIn("orrery_runner", result["traceback"])
        self.assertIn("return {}['key']", result["traceback"])
        self.assertTrue(result["traceback"].splitlines()[1].strip().startswith('File "data_loaders/raises.py", line 3'))
        self.block("exits", "import sys\n@data_loader\ndef f():\n    sys.exit(7)\n")
        self.fails("exits", "USER_CODE", "exit", "7")
        self.block("lacks", "import nowhere_at_all\n@data_loader\ndef f(): return 1\n")
        self.fails("lacks", "USER_CODE", "No module named 'nowhere_at_all'; if it is a package, add `nowhere_at_all` to the "
                   "project's requirements.txt")
        self.block("known", "raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')\n")
        self.fails("known", "USER_CODE", "add `opencv-python-headless` to")
        self.block("part", "import json.nowhere\n@data_loader\ndef f(): return 1\n")
        self.assertNotIn("requirements.txt", self.fails("part", "USER_CODE", "json.nowhere")["message"])
        self.block("exits0", "import sys\n@data_loader\ndef f():\n    sys.exit(0)\n")
        self.ok("exits0")

    def test_argument_count(self) -> None:
        self.block("up", "@data_loader\ndef f(): return 1\n")
        self.ok("up")
        for uuid, signature, good in [
                ("a", "x", True), ("b", "", False), ("c", "x, y", False), ("d", "*args", True), ("e", "x, **kw", True),
                ("g", "x, y=1", False), ("h", "x, y, **kw", False), ("i", "**kw", False)]:
            self.block(uuid, f"@transformer\ndef f({signature}): return 1\n", "transformer", upstream=["up"])
            if good:
                self.ok(uuid)
            else:
                self.fails(uuid, "USER_CODE", "named parameters", "up")

    def test_preprocesser_async_and_replica(self) -> None:
        self.block("p", """
seen = []
@preprocesser
def first(*args, **kwargs): seen.append(kwargs['block_uuid'])
@data_loader
async def f(*args, **kwargs): return seen
""")
        self.ok("p")
        self.assertEqual(self.stored("p"), ["p"])
        self.block("copy", None, file=None, replica_of="p")
        self.ok("copy")
        self.assertEqual(self.stored("copy"), ["copy"])

    def test_failing_tests(self) -> None:
        self.block("t", "@data_loader\ndef f(): return 1\n@test\ndef good(x): pass\n"
                        "@test\ndef bad(x): assert x == 2, 'not two'\n@test\ndef worse(x): 1/0\n")
        result = self.fails("t", "TEST_FAILED", "2 of 3", "bad", "not two", "worse", "ZeroDivisionError")
        self.assertIn('File "data_loaders/t.py", line 6', result["traceback"])
        self.assertEqual(result["traceback"].splitlines()[-1], "AssertionError: not two")
        self.assertNotIn(self.repo, "".join(line["message"] for line in self.last.logs))
        self.assertEqual(self.stored("t"), [1])

    def test_markdown_and_unrunnable(self) -> None:
        self.block("m", "# hi", "markdown", "markdown")
        self.ok("m")
        self.block("y", "a: 1", "data_loader", "yaml")
        self.fails("y", "USER_CODE", "yaml", "streaming")


class Outputs(ProjectCase):
    def test_lists(self) -> None:
        self.block("many", "@data_loader\ndef f(): return [{'n': i} for i in range(1000)]\n")
        result = self.ok("many")
        self.assertEqual([(o["kind"], o["rows"]) for o in result["outputs"]], [("list", 1000)])
        self.assertEqual(self.stored("many"), [{"n": i} for i in range(1000)])
        self.assertEqual(sorted(os.listdir(self.dir_of("many"))), ["manifest.json", "output_0", "preview.json"])
        self.assertEqual(os.listdir(self.dir_of("many") + "/output_0"), ["data.json"])
        from orrery_runner import outputs

        self.assertEqual(outputs.read_one(self.dir_of("many"), "output_7"), {"n": 7})
        self.block("one", "import pandas as pd\n@data_loader\ndef f(): return [pd.DataFrame({'a': [1]})]\n")
        self.ok("one")
        self.assertEqual(len(self.stored("one")), 1)
        self.block("named", "import collections\nPair = collections.namedtuple('Pair', 'a b')\n"
                            "@data_loader\ndef f(): return Pair(1, [2])\n@test\ndef two(a, b): assert (a, b) == (1, [2])\n")
        self.ok("named")
        self.assertEqual(self.stored("named"), [1, [2]])
        self.block("empty", "@data_loader\ndef f(): return []\n")
        self.assertEqual(self.ok("empty")["outputs"], [])

    def test_objects_of_block_files_survive(self) -> None:
        self.block("obj", "import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int\n"
                          "@data_loader\ndef f(): return Point(3), {'p': Point(4), 'when': __import__('datetime').date(2024, 1, 2)}\n")
        result = self.ok("obj")
        self.assertEqual([o["kind"] for o in result["outputs"]], ["custom_object", "dictionary_complex"])
        self.block("use", "@transformer\ndef f(pair): return pair[0].x + pair[1]['p'].x, pair[1]['when'].year\n",
                   "transformer", upstream=["obj"])
        self.ok("use")
        self.assertEqual(self.stored("use"), [7, 2024])

    def test_what_cannot_be_stored(self) -> None:
        self.block("lock", "import threading\n@data_loader\ndef f(): return {'ok': 1}, threading.Lock()\n")
        self.fails("lock", "OUTPUT", "block lock", "output_1", "_thread.lock")
        self.assertFalse(os.path.exists(self.dir_of("lock")))
        self.assertEqual(os.listdir(self.out), [])
        self.block("circle", "@data_loader\ndef f():\n    x = {}\n    x['x'] = x\n    return x\n")
        self.fails("circle", "OUTPUT", "circle", "contains itself")

    def test_generators(self) -> None:
        self.block("gen", "import pandas as pd\n@data_loader\ndef f():\n    for i in range(3):\n"
                          "        yield pd.DataFrame({'i': [i, i]})\n@test\ndef six(df): assert len(df) == 6\n")
        result = self.ok("gen")
        self.assertEqual([(o["kind"], o["rows"]) for o in result["outputs"]], [("parts", 6)])
        self.assertEqual(list(self.stored("gen")[0].i), [0, 0, 1, 1, 2, 2])
        self.assertTrue(os.path.exists(self.dir_of("gen") + "/output_0/2/data.parquet"))

    def test_manifest(self) -> None:
        self.block("m", "@data_loader\ndef f(): return {'a': 1}\n")
        self.ok("m")
        with open(self.dir_of("m") + "/manifest.json", encoding="utf-8") as file:
            self.assertEqual(json.load(file), {"version": 1, "outputs": [
                {"name": "output_0", "kind": "json", "files": ["output_0/data.json"], "rows": -1, "size_bytes": 7}]})


class Special(ProjectCase):
    def test_sensor(self) -> None:
        self.block("up", "@data_loader\ndef f(): return 1\n")
        self.block("s", "@sensor\ndef f(*args, **kwargs): return kwargs['retry']['attempts'] > 2\n", "sensor",
                   upstream=["up"])
        self.assertEqual(self.run_block("s"), {"outcome": "not_yet"})
        self.assertEqual(self.ok("s", attempt_number=3)["outputs"], [])
        self.block("bare", "@sensor\ndef f(): return True\n", "sensor", upstream=["up"])
        self.block("kw", "@sensor\ndef f(**kwargs): return True\n", "sensor", upstream=["up"])
        for uuid in ("bare", "kw"):
            self.assertEqual(self.ok(uuid)["outputs"], [])
        self.block("tested", "@sensor\ndef f(): return True\n@test\ndef g(*outputs, **kwargs): assert outputs, kwargs['ds']\n",
                   "sensor")
        self.fails("tested", "TEST_FAILED", "g: AssertionError: 2024-02-29")

    def test_conditions(self) -> None:
        self.block("b", "@data_loader\ndef f(): return 1\n")
        yes = self.block("yes", "@condition\ndef f(*args, **kwargs): return True\n", "conditional")
        no = self.block("no", "@condition\ndef f(*args, **kwargs): return kwargs['configuration'] != {}\n", "conditional")
        bad = self.block("bad", "@condition\ndef f(): 1/0\n", "conditional")
        self.ok("b", conditions=[yes])
        self.assertEqual(self.run_block("b", conditions=[yes, no]), {"outcome": "condition_failed"})
        self.assertEqual(self.run_block("b", conditions=[bad]), {"outcome": "condition_failed"})
        self.assertTrue(any("ZeroDivisionError" in entry["message"] for entry in self.last.logs))
        # As in Mage it is as if there were none; the log says so.
        empty = self.block("empty", "def f(*args, **kwargs): return False\n", "conditional")
        self.ok("b", conditions=[empty, yes], output_dir=self.dir_of("b2"))
        self.assertTrue(any("empty lets block b run" in entry["message"] for entry in self.last.logs))
        self.assertEqual(self.run_block("b", conditions=[empty, no]), {"outcome": "condition_failed"})

    def test_what_guards_and_reactions_are_given(self) -> None:
        self.block("b", "@data_loader\ndef f(): return 5\n", configuration={"limit": 3, "mine": "block"})
        code = ("    print(kwargs['block_uuid'], kwargs['parent_block_uuid'], kwargs['configuration'], "
                "kwargs['pipeline_run'].execution_partition)\n    return True\n")
        guard = self.block("guard", "@condition\ndef f(*args, **kwargs):\n" + code, "conditional",
                           configuration={"mine": "guard"})
        self.ok("b", conditions=[guard])
        self.assertEqual(self.last.text(), "guard b {'limit': 3, 'mine': 'guard'} 3/20240229T131415\n")
        self.block("cb", "@callback\ndef f(data, **kwargs):\n" + code, "callback", upstream=["b"])
        self.ok("cb", mode="callback", callback={"status": "success", "block": "b", "error": None})
        self.assertEqual(self.last.text(), "cb b {'limit': 3, 'mine': 'block'} 3/20240229T131415\n")

    def test_callbacks(self) -> None:
        self.block("b", "@data_loader\ndef f(): return 5\n")
        self.ok("b")
        self.block("cb", """
@callback
def good(parent_block_data, **kwargs): print('good', parent_block_data, kwargs['parent_block_uuid'], kwargs['pipeline_run'].pipeline_uuid)
@callback('failure')
def bad(parent, **kwargs): print('bad', parent, kwargs['__error'])
@callback('failure')
def bare(**kwargs): print('bare', kwargs['__input'])
@callback('cancelled')
def gone(parent, **kwargs): print('gone', parent)
@on_success
def legacy(**kwargs): print('legacy')
""", "callback", upstream=["b"])
        told = {"block": "b", "error": None}
        self.ok("cb", mode="callback", callback={"status": "success", **told})
        self.assertEqual(self.last.text(), "good 5 b sales\nlegacy\n")
        self.ok("cb", mode="callback", inputs=[], callback={
            "status": "failure", "block": "b", "error": {"message": "boom", "code": "USER_CODE"}})
        self.assertEqual(self.last.text(), "bad [] boom\nbare {'b': [], 'df_1': []}\n")
        self.ok("cb", mode="callback", callback={"status": "cancelled", **told})
        self.assertEqual(self.last.text(), "gone None\n")
        self.block("cb", "@callback\ndef f(*args, **kwargs): print('called')\n@callback('failed')\ndef g(**kwargs): pass\n",
                   "callback", upstream=["b"])
        self.fails("cb", "USER_CODE", "block cb: @callback('failed')", "success, failure, cancelled", mode="callback",
                   callback={"status": "success", **told})
        self.assertEqual(self.last.text(), "")

    def test_dynamic(self) -> None:
        self.block("d", "@data_loader\ndef f(): return [['a', 'b', 'c'], "
                        "[{'block_uuid': 'x', 'm': 1}, {'block_uuid': 'x'}, {}]]\n", dynamic=True)
        result = self.ok("d")
        self.assertEqual((result["items"], result["item_names"]), (3, ["x", "x:1", "2"]))
        self.block("c", "@transformer\ndef f(item, **kwargs): return [item, kwargs.get('m'), kwargs.get('block_uuid')]\n",
                   "transformer", upstream=["d"])
        for index in range(3):
            self.ok("c", output_dir=f"{self.out}/c{index}", dynamic_block_index=index,
                    inputs=[{"block": "d", "mode": "item", "item": index, "dirs": [self.dir_of("d")]}])
        self.block("r", "@data_exporter\ndef f(all): return [all]\n", "data_exporter", upstream=["c"])
        self.ok("r", inputs=[{"block": "c", "mode": "reduced", "item": 0, "dirs": [
            f"{self.out}/c0", f"{self.out}/c1", f"{self.out}/none", f"{self.out}/c2"]}])
        self.assertEqual(self.stored("r"), [["a", 1, "c", "b", None, "c", "c", None, "c"]])

    def test_dynamic_metadata_that_is_ignored_is_told(self) -> None:
        for key, told in (("upstream_blocks", 1), ("other", 0)):
            self.block("d", f"@data_loader\ndef f(): return [[1, 2], [{{'{key}': ['a']}}, {{}}]]\n", dynamic=True)
            self.ok("d", output_dir=self.dir_of(key))
            warnings = [line["message"] for line in self.last.logs if line["level"] == "WARNING"]
            self.assertEqual(len([text for text in warnings if "block d: upstream_blocks" in text]), told, warnings)

    def test_dynamic_kinds_of_items(self) -> None:
        cases = {
            "frame": ("__import__('pandas').DataFrame({'a': [1, 2]})", 2, "item['a']", 2),
            "dict": ("{'k': 10, 'l': 20}", 2, "item", 20),
            "tuple": ("([1, 2, 3],)", 3, "item", 2),
            "none": ("None", 0, None, None),
            "nothing": ("[[]]", 0, None, None),
        }
        for uuid, (expression, count, probe, expected) in cases.items():
            self.block(uuid, f"@data_loader\ndef f(): return {expression}\n", dynamic=True)
            self.assertEqual(self.ok(uuid)["items"], count, uuid)
            if probe:
                self.block("child_" + uuid, f"@custom\ndef f(item): return int({probe})\n", "custom", upstream=[uuid])
                self.ok("child_" + uuid, inputs=[{"block": uuid, "mode": "item", "item": 1, "dirs": [self.dir_of(uuid)]}])
                self.assertEqual(self.stored("child_" + uuid), [expected])
        for uuid, expression, part in [
                ("flat", "[1, 2, 3]", "one more list"), ("scalar", "5", "type int"),
                ("short", "[[1, 2], [{}]]", "2 items and 1"), ("meta", "[[1], 5]", "list of dicts")]:
            self.block(uuid, f"@data_loader\ndef f(): return {expression}\n", dynamic=True)
            self.fails(uuid, "OUTPUT", uuid, part)

    def test_an_item_is_read_alone(self) -> None:
        items, metadata = ["AAAA", {"ö": ["ü", 1.5]}, None], [{}, {"m": "é"}, {}]
        cases = {"bare": [items], "paired": [items, metadata], "named": {"k,1": items[0], "l": items[1], "m": None}}
        for uuid, value in cases.items():
            self.block(uuid, f"@data_loader\ndef f(): return {value!r}\n", dynamic=True)
            self.ok(uuid)
            self.assertEqual(self.stored(uuid), value if isinstance(value, list) else [value])
            path = f"{self.dir_of(uuid)}/output_0/data.json"
            with open(path, "rb") as file:
                data = file.read()
            with open(path, "wb") as file:
                file.write(data.replace(b"AAAA", b"A\"AA"))  # no JSON any more, were it read whole
            self.block("c", "@transformer\ndef f(item, **kwargs): return [item, kwargs.get('m')]\n", "transformer", upstream=[uuid])
            for index in (1, 2):
                given = [{"block": uuid, "mode": "item", "item": index, "dirs": [self.dir_of(uuid)]}]
                out = f"{self.out}/{uuid}{index}"
                self.ok("c", output_dir=out, inputs=given)
                from orrery_runner import outputs

                self.assertEqual(outputs.read(out), [items[index], "é" if uuid == "paired" and index == 1 else None])
            given = [{"block": uuid, "mode": "item", "item": 3, "dirs": [self.dir_of(uuid)]}]
            self.fails("c", "OUTPUT", f"block {uuid} has no item number 3", inputs=given)

    def test_one_process(self) -> None:
        self.block("a", "import pandas as pd\n@data_loader\ndef f(**kwargs):\n    kwargs['context']['n'] = 1\n"
                        "    return pd.DataFrame({'x': [1]})\n")
        self.block("b", "@transformer\ndef f(df, **kwargs):\n    df['y'] = 2\n    return [kwargs['context'], list(df)]\n",
                   "transformer", upstream=["a"])
        child = self.start()
        for uuid in ("a", "b", "b"):
            result = child.run(self.job(uuid, keep_in_memory=True))
            self.assertEqual(result["outcome"], "completed", result)
        self.assertEqual(len(result["outputs"]), 2)
        self.assertEqual(os.listdir(self.out), [])
        self.assertEqual(child.end(), {"exit": 0})

    def test_a_long_list_in_memory_is_one_output(self) -> None:
        self.block("long", "@data_loader\ndef f(): return [{'n': n} for n in range(70)]\n")
        self.block("next", """
from mage_ai.data_preparation.variable_manager import get_variable
@transformer
def f(given, *args, **kwargs):
    given[0]['n'] = 'changed'
    return [len(given), given[69], get_variable('sales', 'long', 'output_3')]
""", "transformer", upstream=["long"])
        child = self.start()
        child.answers = {"get_variable": lambda given: {"dir": self.dir_of("long"), "name": given["variable_uuid"]}}
        kept = child.run(self.job("long", keep_in_memory=True))
        self.assertEqual(kept["outputs"], [{"name": "output_0", "kind": "list", "rows": 70, "size_bytes": 0}])
        # On disk, where it can be looked at from here.
        self.assertEqual(child.run(self.job("next"))["outcome"], "completed")
        self.assertEqual(self.stored("next"), [70, {"n": 69}, {"n": 3}])
        self.block("all", "@transformer\ndef f(given, *args, **kwargs): return given\n", "transformer", upstream=["long"])
        self.assertEqual(child.run(self.job("all"))["outcome"], "completed")
        self.assertEqual(self.stored("all"), [{"n": n} for n in range(70)])
        self.assertEqual(child.end(), {"exit": 0})


if __name__ == "__main__":
    unittest.main()
