"""Every import that existing projects make, and what they do with it."""
from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import ProjectCase, library

import pandas as pd

NAMES = {
    "mage_ai.data_preparation.decorators": "data_loader transformer data_exporter test custom sensor condition callback "
                                           "on_success on_failure preprocesser extension streaming_source streaming_sink "
                                           "configuration data_source data_integration_query",
    "mage_ai.settings.repo": "get_repo_path get_variables_dir", "mage_ai.data_preparation.repo_manager": "get_repo_path",
    "mage_ai.io.config": "ConfigFileLoader ConfigKey EnvironmentVariableLoader", "mage_ai.io.file": "FileIO",
    "mage_ai.io.base": "FileFormat ExportWritePolicy DataSource", "mage_ai.io.postgres": "Postgres",
    "mage_ai.io.duckdb": "DuckDB", "mage_ai.io.s3": "S3", "mage_ai.io.mysql": "MySQL", "mage_ai.io.bigquery": "BigQuery",
    "mage_ai.io.backblaze_b2": "BackblazeB2",
    "mage_ai.io.redshift": "Redshift", "mage_ai.io.snowflake": "Snowflake", "mage_ai.io.mongodb": "MongoDB",
    "mage_ai.io.google_cloud_storage": "GoogleCloudStorage", "mage_ai.orchestration.triggers.api": "trigger_pipeline",
    "mage_ai.orchestration.run_status_checker": "check_status",
    "mage_ai.data_preparation.variable_manager": "get_variable get_global_variable get_global_variables "
                                                 "set_global_variable",
    "mage_ai.data_preparation.shared.secrets": "get_secret_value",
    "mage_ai.data_preparation.models.global_data_product": "GlobalDataProduct",
    "mage_ai.data_preparation.models.block.remote.models": "RemoteBlock",
    "mage_ai.data_cleaner.transformer_actions.base": "BaseAction",
    "mage_ai.data_cleaner.transformer_actions.constants": "ActionType Axis ImputationStrategy",
    "mage_ai.data_cleaner.transformer_actions.utils": "build_transformer_action",
    "mage_ai.data_cleaner.column_types.column_type_detector": "infer_column_types",
    "mage_ai.streaming.sources.base": "BaseSource", "mage_ai.streaming.sinks.base": "BaseSink",
    "mage_ai.streaming.sources.base_python": "BasePythonSource", "mage_ai.shared.hash": "dig merge_dict ignore_keys",
    "mage_ai.shared.array": "find", "mage_ai.shared.utils": "clean_name", "mage_ai.shared.strings": "is_number",
    "mage_ai.shared.enum": "StrEnum", "mage_ai.shared.logger": "logger get_logger",
}


class Imports(unittest.TestCase):
    def test_all_names_are_there(self) -> None:
        for module, names in NAMES.items():
            for name in names.split():
                self.assertTrue(hasattr(importlib.import_module(module), name), f"{module}.{name}")

    def test_decorators_change_nothing_outside_of_block_files(self) -> None:
        from mage_ai.data_preparation.decorators import callback, data_loader

        def function() -> None: ...

        self.assertIs(data_loader(function), function)
        self.assertIs(callback("failure")(function), function)

    def test_unsupported_sources_say_what_to_do(self) -> None:
        from mage_ai.io.snowflake import Snowflake

        with self.assertRaisesRegex(NotImplementedError, "snowflake-connector-python"):
            Snowflake.with_config(None)


    def test_modules_that_are_not_here_say_what_to_do(self) -> None:
        for module, remedy in {
                "mage_ai.orchestration.db.models.schedules": "trigger_pipeline", "mage_ai.data_preparation.models.pipeline":
                "variable_manager", "mage_ai.services.spark.config": "requirements.txt", "mage_ai.io.opensearch": "client",
                "mage_ai.streaming.sinks.kafka": "batch pipeline", "mage_ai.sample_datasets": "in the project"}.items():
            with self.assertRaisesRegex(ModuleNotFoundError, f"{module[:16]}.* not supported here; .*{remedy}"):
                importlib.import_module(module)
        with self.assertRaisesRegex(ImportError, "not supported here; .*requirements.txt"):
            from mage_ai.services import slack  # noqa: F401
        self.assertIsNone(importlib.util.find_spec("nowhere_at_all"))

    def test_small_helpers(self) -> None:
        from mage_ai.io.base import DataSource, FileFormat
        from mage_ai.shared.array import batch, find, find_index
        from mage_ai.shared.hash import dig, extract, group_by, ignore_keys, index_by, merge_dict
        from mage_ai.shared.strings import camel_to_snake_case, is_number

        self.assertEqual(dig({"a": {"b": [1, {"c": 2}]}}, "a.b[1].c"), 2)
        self.assertIsNone(dig({"a": None}, "a.b"))
        self.assertEqual((extract({"a": 1, "b": 2}, ["a", "c"]), ignore_keys({"a": 1, "b": 2}, ["a"]), merge_dict(None, {"a": 1})),
                         ({"a": 1}, {"b": 2}, {"a": 1}))
        self.assertEqual((group_by(len, ["a", "b", "cc"]), index_by(len, ["a", "b"])), ({1: ["a", "b"], 2: ["cc"]}, {1: "b"}))
        self.assertEqual((find(lambda x: x > 1, [1, 2, 3]), find(lambda x: x > 9, [1]), find_index(lambda x: x > 1, [1, 2]),
                          list(batch([1, 2, 3], 2))), (2, None, 1, [[1, 2], [3]]))
        self.assertEqual((camel_to_snake_case("someHTTPName"), is_number("1e3"), is_number(None)), ("some_http_name", True, False))
        self.assertEqual((str(DataSource.MSSQL), str(FileFormat.EXCEL), FileFormat("excel")),
                         ("sqlserver", "excel", FileFormat.EXCEL))


class Config(unittest.TestCase):
    def load(self, text: str, profile: str = "default", **env: str):
        from mage_ai.io.config import ConfigFileLoader

        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file, mock.patch.dict(os.environ, env):
            file.write(text)
            file.flush()
            return ConfigFileLoader(file.name, profile)

    def test_templates(self) -> None:
        config = self.load("version: 0.1.1\ndefault:\n  POSTGRES_HOST: \"{{ env_var('HOST_OF_PG') }}\"\n"
                           "  POSTGRES_PASSWORD: \"{{ mage_secret_var('pw') }}\"\n  POSTGRES_PORT: 5432\n"
                           "  AWS_REGION: \"{{ json_value('{\\\"r\\\": \\\"eu\\\"}', 'r') }}\"\n"
                           "  AWS_SESSION_TOKEN: \"{{ env_var('NOT_SET_ANYWHERE') }}\"\n",
                           HOST_OF_PG="db", ORRERY_SECRET_pw="s3cret")
        from mage_ai.io.config import ConfigKey

        self.assertEqual((config["POSTGRES_HOST"], config[ConfigKey.POSTGRES_PASSWORD], config["POSTGRES_PORT"],
                          config["AWS_REGION"]), ("db", "s3cret", 5432, "eu"))
        self.assertIsNone(config.get("MYSQL_HOST"))
        self.assertIn(ConfigKey.POSTGRES_PORT, config)

    def test_old_nested_profiles(self) -> None:
        config = self.load("version: 0.1.0\nold:\n  PostgreSQL:\n    database: d\n    host: h\n  AWS:\n    region: r\n"
                           "    Redshift:\n      cluster_identifier: c\n      database: e\n", "old")
        self.assertEqual([config[key] for key in ("POSTGRES_DBNAME", "POSTGRES_HOST", "AWS_REGION",
                                                  "REDSHIFT_CLUSTER_ID", "REDSHIFT_DBNAME")], ["d", "h", "r", "c", "e"])

    def test_missing_profile(self) -> None:
        with self.assertRaisesRegex(ValueError, "no profile 'x'.*default"):
            self.load("default: {}\n", "x")


class Files(unittest.TestCase):
    def test_formats(self) -> None:
        from mage_ai.io.file import FileIO

        frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
        with tempfile.TemporaryDirectory() as folder:
            for name, options in (("f.csv", {"index": False}), ("deep/f.parquet", {}), ("f.json", {})):
                path = os.path.join(folder, name)
                FileIO().export(frame, path, **options)
                pd.testing.assert_frame_equal(FileIO().load(path), frame)
            self.assertEqual(len(FileIO().load(os.path.join(folder, "f.csv"), limit=1)), 1)
            FileIO().export(frame, os.path.join(folder, "many", "a.csv"), index=False)
            FileIO().export(frame, os.path.join(folder, "many", "deeper", "b.csv"), index=False)
            self.assertEqual(len(FileIO().load(file_directories=[os.path.join(folder, "many")], format="csv")), 4)
            with self.assertRaisesRegex(ValueError, "cannot be told"):
                FileIO().load(os.path.join(folder, "f"))

    def test_a_format_without_its_package_names_it(self) -> None:
        from mage_ai.io.file import FileIO

        with tempfile.TemporaryDirectory() as folder:
            # An empty file has no format that pandas could guess.
            for name, package, options in (("f.xlsx", "openpyxl", {"engine": "openpyxl"}), ("f.h5", "tables", {})):
                path = os.path.join(folder, name)
                wanted = f"need the package {package}; add it to the project's requirements.txt"
                with mock.patch.dict(sys.modules, {package: None}):
                    with self.assertRaisesRegex(ImportError, wanted):
                        FileIO().export(pd.DataFrame({"a": [1]}), path)
                    open(path, "wb").close()
                    with self.assertRaisesRegex(ImportError, wanted):
                        FileIO().load(path, **options)

    def test_files_are_read_whole(self) -> None:
        from mage_ai.io.base import QUERY_ROW_LIMIT
        from mage_ai.io.file import FileIO

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "long.parquet")
            pd.DataFrame({"a": [True]}).reindex(range(QUERY_ROW_LIMIT + 1), method="ffill").to_parquet(path, index=False)
            self.assertEqual(len(FileIO().load(path)), QUERY_ROW_LIMIT + 1)

    def test_times_in_files_are_in_milliseconds(self) -> None:
        import pyarrow.parquet
        from mage_ai.io.file import FileIO

        frame = pd.DataFrame({"at": pd.to_datetime(["2024-02-29 13:14:15.123456789"])})
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "f.parquet")
            for options, unit in (({}, "ms"), ({"coerce_timestamps": "us", "allow_truncated_timestamps": True}, "us")):
                FileIO().export(frame, path, **options)
                self.assertEqual(str(pyarrow.parquet.read_schema(path).field("at").type), f"timestamp[{unit}]")

    def test_polars_writes_rows(self) -> None:
        polars = library(self, "polars")
        from mage_ai.io.file import FileIO

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "f.json")
            FileIO().export(polars.DataFrame({"a": [1, 2]}), path)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.load(file), [{"a": 1}, {"a": 2}])


class Actions(unittest.TestCase):
    def act(self, frame: pd.DataFrame, kind: str, **fields) -> pd.DataFrame:
        from mage_ai.data_cleaner.transformer_actions.base import BaseAction
        from mage_ai.data_cleaner.transformer_actions.constants import ActionType
        from mage_ai.data_cleaner.transformer_actions.utils import build_transformer_action

        return BaseAction(build_transformer_action(frame, action_type=ActionType(kind), **fields)).execute(frame)

    def test_the_ordinary_ones(self) -> None:
        frame = pd.DataFrame({"My Col": [3.0, 1.0, None, 1.0], "g": ["a", "b", "a", "b"]})
        self.assertEqual(list(self.act(frame, "clean_column_name", arguments=frame.columns)), ["my_col", "g"])
        self.assertEqual(list(self.act(frame, "remove", arguments=["g"])), ["My Col"])
        self.assertEqual(len(self.act(frame, "drop_duplicate", axis="row", arguments=["My Col", "g"])), 3)
        self.assertEqual(self.act(frame, "sort", axis="row", arguments=["My Col"])["My Col"].tolist()[1:], [1, 1, 3])
        self.assertEqual(len(self.act(frame, "filter", axis="row", action_code="`My Col` > 1")), 1)
        self.assertEqual(len(self.act(frame, "filter", axis="row", action_code="My Col != null")), 3)
        self.assertEqual(len(self.act(frame, "filter", axis="row", action_code="g contains 'a'")), 2)
        filled = self.act(frame, "impute", arguments=["My Col"], options={"strategy": "average"})
        self.assertEqual(filled["My Col"].tolist(), [3, 1, 1, 1])  # 5 / 3, in a column of whole numbers
        totals = self.act(frame, "sum", arguments=["My Col"], options={"groupby_columns": ["g"]},
                          outputs=[{"uuid": "total"}])
        self.assertEqual(totals["total"].tolist(), [3, 2, 3, 2])
        with self.assertRaisesRegex(NotImplementedError, "union.*pandas"):
            self.act(frame, "union")

    def test_column_names_as_mage_cleans_them(self) -> None:
        from mage_ai.data_cleaner.transformer_actions.utils import clean_column_name

        for name, cleaned in {
                "PassengerId": "passenger_id", "HTTPServer": "h_t_t_p_server", "camelCase": "camel_case", "UPPER1": "upper1",
                "1st": "1st", "123": "number_123", "a - b": "a___b", " 'class' ": "class_", "Address1Line": "address1line",
                "US$ (net)": "us_net", "x.y-z": "x_y_z", "": "number_", "__Name__": "name"}.items():
            self.assertEqual(clean_column_name(name), cleaned, name)

    def test_missing_and_wrong_values(self) -> None:
        frame = pd.DataFrame({"n": [1.0, None, 3.0, 4.0], "t": ["a", " ", "b", "c"], "e": ["a@b.co", "b@b.co", "c@b.co", "no"],
                              "d": ["1", "x", "3", "4.5"], "o": ["p", "q", "r", "s"]})
        filled = self.act(frame, "impute", arguments=["n", "t"])
        self.assertEqual((filled["n"].tolist(), str(filled["n"].dtype), filled["t"].tolist()),
                         ([1, 0, 3, 4], "int64", ["a", "missing", "b", "c"]))
        self.assertEqual(self.act(frame, "impute", arguments=["t"], options={"strategy": "column", "value": "o"})["t"][1], "q")
        fixed = self.act(frame, "fix_syntax_errors", arguments=frame.columns)
        self.assertEqual(fixed["e"].tolist()[3], "invalid")
        action = {"action_type": "fix_syntax_errors", "axis": "column", "action_arguments": ["%{1_1}"], "action_variables": {
            "1_1": {"type": "feature", "feature": {"uuid": "d", "column_type": "number"}}}}
        from mage_ai.data_cleaner.transformer_actions.base import BaseAction

        self.assertTrue(pd.isna(BaseAction(action).execute(frame)["d"][1]))

    def test_scales_forms_and_groups(self) -> None:
        frame = pd.DataFrame({"n": [1.0, 2.0, 3.0], "g": ["a", None, "a"], "c": ["$1,000", " 2 ", "x"],
                              "d": ["2024-01-02", "03/04/2024 05:06", None], "s": [" A ", None, "b"]}, index=[5, 6, 7])
        self.assertEqual(self.act(frame, "standardize", arguments=["n"])["n"].round(4).tolist(), [-1.2247, 0, 1.2247])
        groups = self.act(frame, "count", arguments=["n"], options={"groupby_columns": ["g"]}, outputs=[{"uuid": "k"}])
        self.assertEqual((groups["k"].fillna(-1).tolist(), groups.index.tolist()), ([2, -1, 2], [0, 1, 2]))

        def form(name, how):
            return self.act(frame, "reformat", arguments=[name], options={"reformat": how, "capitalization": "uppercase"})[name]

        self.assertEqual(form("c", "currency_to_num").fillna(-1).tolist(), [1000, 2, -1])
        self.assertEqual(form("d", "date_format_conversion").astype(str).tolist(),
                         ["2024-01-02 00:00:00", "2024-03-04 05:06:00", "NaT"])
        self.assertEqual((form("s", "trim").tolist()[0], str(form("s", "caps_standardization").dtype)), ("A", "object"))
        self.assertEqual(list(self.act(frame, "remove", arguments=["g", "gone"])), ["n", "c", "d", "s"])
        self.assertEqual(len(self.act(frame, "remove", axis="row", options={"rows": [5, 99]})), 2)

    def test_filters(self) -> None:
        frame = pd.DataFrame({"a b": [1, 2, 3], "s": ["xy", "", None], "t": ["xy", "q", "z"], "ok": [True, False, True]})
        for code, rows in {
                '"a b" > 1': [1, 2], "s == null": [1, 2], "s != null and ok == true": [0], "t contains 'x|z'": [0, 2],
                "not (t not contains 'x')": [0], "s == t": [0], 't == "q" or "a b" == 3': [1, 2], "ok": [0, 2]}.items():
            self.assertEqual(self.act(frame, "filter", axis="row", action_code=code).index.tolist(), rows, code)
        numbers = pd.DataFrame({"n": ["10", "9", "", "100"]})
        for ascending, order in ((True, [2, 1, 0, 3]), (False, [3, 0, 1, 2])):
            self.assertEqual(self.act(numbers, "sort", axis="row", arguments=["n"],
                                      options={"ascending": ascending}).index.tolist(), order)

    def test_outliers(self) -> None:
        frame = pd.DataFrame({"n": [*range(30), 10_000], "t": ["x"] * 31})
        library(self, "sklearn")
        kept = self.act(frame, "remove_outliers", arguments=frame.columns, options={"method": "auto"})
        self.assertNotIn(10_000, kept["n"].tolist())

    def test_column_types(self) -> None:
        from mage_ai.data_cleaner.column_types.column_type_detector import infer_column_types

        frame = pd.DataFrame({
            "n": [1, 2, 3, 4], "f": [1.5, 2, 3, 4], "e": ["a@b.co", "b@b.co", "c@b.co", None], "c": ["x", "y", "z", "x"],
            "d": pd.to_datetime(["2024-01-01"] * 4), "b": [True, False, True, True], "whole": [1.0, 2.0, None, 3.0],
            "two": ["x", "y", "x", "y"], "digits": ["1", "2,000", "$3", "4"], "t": ["2024-01-02 03:04:05"] * 3 + ["x"],
            "zip": ["12345", "2345", "345", None], "words": ["a b", "c d", "e f", "g h"], "l": [[1], [], [2], None]})
        self.assertEqual(" ".join(str(kind) for kind in infer_column_types(frame).values()),
                         "number number_with_decimals email category datetime true_or_false number true_or_false number "
                         "true_or_false zip_code text list")


class Calls(ProjectCase):
    def test_trigger_pipeline(self) -> None:
        self.block("t", """
from mage_ai.orchestration.triggers.api import trigger_pipeline
import datetime
@custom
def f(*args, **kwargs):
    run = trigger_pipeline('other', variables={'day': datetime.date(2024, 1, 2)}, check_status=True, error_on_failure=True)
    again = trigger_pipeline('other')
    return [run.id, run.status, again.status]
""", "custom")
        answers = {"trigger_pipeline": {"run_id": "r1", "status": "running"},
                   "wait_run": {"status": "completed", "reason": None}}
        for attempt in (1, 2):
            self.ok("t", answers=answers, attempt_number=attempt, output_dir=self.dir_of(f"t{attempt}"))
            self.assertEqual(self.stored(f"t{attempt}"), ["r1", "completed", "running"])
            calls = [call for call in self.last.calls if call["method"] == "trigger_pipeline"]
            self.assertEqual([call["arguments"] for call in calls], [
                {"pipeline_uuid": "other", "variables": {"day": "2024-01-02"}, "key": "run/t:1"},
                {"pipeline_uuid": "other", "variables": {}, "key": "run/t:2"}])
        answers["wait_run"] = {"status": "failed", "reason": "block x failed"}
        self.fails("t", "USER_CODE", "failed", "block x failed", answers=answers)

    def test_trigger_pipeline_with_a_time_out(self) -> None:
        self.block("t", """
from mage_ai.orchestration.triggers.api import trigger_pipeline
@custom
def f(*args, **kwargs):
    run = trigger_pipeline('other', check_status=True, poll_interval=0.1, poll_timeout=kwargs['patience'])
    return run.status
""", "custom")
        answers = {"trigger_pipeline": {"run_id": "r1", "status": "running"}, "wait_run": {"status": "completed"}}
        # 0 is no limit. Who polled would hold its slot: the one way to wait is the cluster's.
        for patience, asked in ((7, {"run_id": "r1", "timeout_s": 7.0}), (0, {"run_id": "r1"})):
            self.ok("t", answers=answers, variables={"patience": patience}, output_dir=self.dir_of(f"t{patience}"))
            self.assertEqual(self.stored(f"t{patience}"), ["completed"])
            self.assertEqual([(call["method"], call["arguments"]) for call in self.last.calls[1:]], [("wait_run", asked)])
        answers["wait_run"] = {"status": "running"}
        self.fails("t", "USER_CODE", "TimeoutError", "r1", "other", "7 s", "running", answers=answers,
                   variables={"patience": 7})

    def test_remote_blocks(self) -> None:
        self.file("pipelines/other/metadata.yaml", "blocks: [{uuid: made}, {uuid: b}]")
        self.block("made", "@data_loader\ndef f(): return [{'n': 1}, 'second']\n")
        self.ok("made")
        self.block("items", """
from mage_ai.orchestration.triggers.api import trigger_pipeline
@custom
def f(*args, **kwargs):
    return [[7], trigger_pipeline('other', return_remote_blocks=True)]
""", "custom", dynamic=True)
        answers = {"trigger_pipeline": {"run_id": "r1", "status": "running"}, "wait_run": {"status": "completed"},
                   "get_variable": lambda given: {"dir": self.dir_of("made")} if given["block_uuid"] == "made" else None}
        self.ok("items", answers=answers)
        self.block("child", "@transformer\ndef f(item, **kwargs): return [item, kwargs['remote_blocks']]\n", "transformer",
                   upstream=["items"])
        inputs = [{"block": "items", "mode": "item", "item": 0, "dirs": [self.dir_of("items")]}]
        self.ok("child", inputs=inputs, dynamic_block_index=0, answers=answers)
        self.assertEqual(self.stored("child"), [7, [[{"n": 1}, "second"], []]])
        self.assertEqual([call["arguments"]["partition"] for call in self.last.calls], ["r1", "r1"])
        self.block("told", "@data_loader\ndef f(**kwargs): return kwargs['remote_blocks']\n")
        self.ok("told", answers=answers, variables={"remote_blocks": [{"block_uuid": "made", "pipeline_uuid": "other"}]})
        self.assertEqual(self.stored("told"), [[{"n": 1}, "second"]])

    def test_a_variable_that_is_not_there_is_told(self) -> None:
        self.block("asks", """
from mage_ai.data_preparation.variable_manager import get_variable
@data_loader
def f(**kwargs): return [get_variable('p', 'b'), get_variable('p', 'b', 'x', partition='3/20240229')]
""")
        self.ok("asks", answers={"get_variable": None})
        self.assertEqual(self.stored("asks"), [None, None])
        told = [line["message"] for line in self.last.logs if "get_variable" in line["message"]]
        self.assertEqual(len(told), 2)
        self.assertIn("a completed run, which a call without a partition means, has no output_0 of block b in pipeline p", told[0])
        self.assertIn("the partition 3/20240229 has no x of block b", told[1])

    def test_check_status(self) -> None:
        self.block("s", """
from mage_ai.orchestration.run_status_checker import check_status
@sensor
def f(*args, **kwargs):
    return check_status('up', kwargs['execution_date'], block_uuid='b', hours=3)
""", "sensor")
        self.assertEqual(self.run_block("s", answers={"check_status": {"status": None}}), {"outcome": "not_yet"})
        self.assertEqual(self.last.calls[0]["arguments"], {
            "pipeline_uuid": "up", "execution_date": "2024-02-29T13:14:15.123456+00:00", "block_uuid": "b", "hours": 3})
        self.ok("s", answers={"check_status": {"status": "completed"}})
        self.fails("s", "USER_CODE", "block b of pipeline up ended as failed", answers={"check_status": {"status": "failed"}})

    def test_check_status_of_a_date_without_an_offset(self) -> None:
        self.block("s", """
import datetime
import pandas as pd
from mage_ai.orchestration.run_status_checker import check_status
@sensor
def f(*args, **kwargs):
    east = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    return all([check_status('up', date) for date in (
        datetime.datetime(2024, 6, 1), datetime.datetime(2024, 6, 1, 2, 3, 4, 5), datetime.date(2024, 6, 1), '2024-06-01',
        '2024-06-01 02:03:04', '2024-06-01T02:03:04Z', datetime.datetime(2024, 6, 1, tzinfo=east),
        pd.Timestamp(2024, 6, 1))])
""", "sensor")
        self.ok("s", answers={"check_status": {"status": "completed"}})
        self.assertEqual([call["arguments"]["execution_date"] for call in self.last.calls], [
            "2024-06-01T00:00:00+00:00", "2024-06-01T02:03:04.000005+00:00", "2024-06-01T00:00:00+00:00",
            "2024-06-01T00:00:00+00:00", "2024-06-01T02:03:04+00:00", "2024-06-01T02:03:04+00:00",
            "2024-06-01T00:00:00+05:30", "2024-06-01T00:00:00+00:00"])

    def test_variables_and_secrets(self) -> None:
        self.block("made", "@data_loader\ndef f(): return [{'a': 1}, 'second']\n")
        self.ok("made")
        self.block("v", """
from mage_ai.data_preparation.variable_manager import (
    delete_global_variable, get_global_variable, get_variable, set_global_variable)
from mage_ai.data_preparation.shared.secrets import get_secret_value
@data_loader
def f():
    refused = []
    for change in (set_global_variable, delete_global_variable):
        try:
            change('p', 'k', *([1] if change is set_global_variable else []))
        except NotImplementedError as error:
            refused.append(str(error).startswith(change.__name__ + "('p', 'k'") and 'get_variable' in str(error))
    return [get_variable('p', 'made', key='output_1'), get_global_variable('p', 'k'), get_secret_value('pw'),
            get_secret_value('none'), refused]
""")
        secrets = {"pw": "x"}
        self.ok("v", answers={"get_secret": lambda given: {"value": secrets[given["name"]]} if given["name"] in secrets else None,
                              "get_variable": lambda given: {"dir": self.dir_of("made"), "name": given["variable_uuid"]},
                              "global_variables": {"k": 5}})
        self.assertEqual(self.stored("v"), ["second", 5, "x", None, [True, True]])

    def test_a_refused_call(self) -> None:
        self.block("r", "from mage_ai.data_preparation.variable_manager import get_global_variables\n"
                        "@data_loader\ndef f(): return get_global_variables('p')\n")

        def refuse(_given):
            raise RuntimeError("no such pipeline")

        self.fails("r", "USER_CODE", "global_variables: no such pipeline", answers={"global_variables": refuse})

    def test_global_data_product(self) -> None:
        self.file("global_data_products.yaml", json.dumps({"gdp": {
            "object_type": "pipeline", "object_uuid": "core", "outdated_after": {"seconds": 3600, "weeks": None},
            "outdated_starting_at": {"hour_of_day": 3, "day_of_week": None, "unknown": 1},
            "settings": {"made": {"partitions": 1}}}}))
        self.block("made", "import pandas as pd\n@data_loader\ndef f(): return pd.DataFrame({'a': [1]})\n")
        self.ok("made")
        self.block("use", """
from mage_ai.data_preparation.models.global_data_product import GlobalDataProduct
@transformer
def f(*args, **kwargs): return int(list(GlobalDataProduct.get('gdp').get_outputs().values())[0][0].a[0])
""", "transformer")
        answers = {"trigger_pipeline": {"run_id": "r", "status": "running"},
                   "wait_run": {"status": "completed"}, "get_variable": {"dir": self.dir_of("made"), "name": "output_0"}}
        self.ok("use", answers=answers)
        self.assertEqual([call["method"] for call in self.last.calls],
                         ["trigger_pipeline", "wait_run", "get_variable"])
        self.assertEqual(self.last.calls[0]["arguments"]["product"], {
            "outdated_after_s": 3600, "outdated_starting_at": {"hour_of_day": 3}})
        self.assertEqual(self.stored("use"), [1])
        answers["trigger_pipeline"] = {"run_id": None, "status": "completed"}
        self.block("gdp", None, "global_data_product", file=None)
        self.ok("gdp", answers=answers)
        self.assertEqual([call["method"] for call in self.last.calls], ["trigger_pipeline", "get_variable"])
        self.block("next", "@transformer\ndef f(product): return {k: [len(v), v[0].a.tolist()] for k, v in product.items()}\n",
                   "transformer", upstream=["gdp"])
        self.ok("next")
        self.assertEqual(self.stored("next"), [{"made": [1, [1]]}])

    def test_remote_blocks_of_a_global_data_product(self) -> None:
        self.file("global_data_products.yaml", json.dumps({"gdp": {
            "object_type": "pipeline", "object_uuid": "core", "settings": {"made": {}}}}))
        self.file("pipelines/other/metadata.yaml", "blocks: [{uuid: made}]")
        self.block("gdp", None, "global_data_product", file=None)
        answers = {"trigger_pipeline": {"run_id": "r", "status": "running"}, "wait_run": {"status": "completed"}}
        first, second = ({"block_uuid": uuid, "pipeline_uuid": "other", "execution_partition": "r1", "repo_path": None}
                         for uuid in ("one", "two"))
        self.ok("gdp", answers=answers, variables={"remote_blocks": [second], "variables": {"day": 1, "remote_blocks": [first]}})
        self.assertEqual(self.last.calls[0]["arguments"]["variables"], {"day": 1, "remote_blocks": [first, second]})
        # A child is told by the metadata of its item.
        self.block("items", """
from mage_ai.orchestration.triggers.api import trigger_pipeline
@custom
def f(*args, **kwargs):
    return [[7], trigger_pipeline('other', return_remote_blocks=True)]
""", "custom", dynamic=True)
        self.ok("items", answers=answers)
        self.blocks["gdp"]["upstream"] = ["items"]
        inputs = [{"block": "items", "mode": "item", "item": 0, "dirs": [self.dir_of("items")]}]
        self.ok("gdp", inputs=inputs, dynamic_block_index=0, answers=answers, output_dir=self.dir_of("gdp2"))
        self.assertEqual(self.last.calls[0]["arguments"]["variables"]["remote_blocks"], [
            {"block_uuid": "made", "pipeline_uuid": "other", "execution_partition": "r", "repo_path": None}])
        self.assertNotIn("get_variable", [call["method"] for call in self.last.calls[:2]])

    def test_remote_blocks_behind_a_global_data_product(self) -> None:
        self.file("global_data_products.yaml", json.dumps({name: {
            "object_type": "pipeline", "object_uuid": name + "_core", "settings": settings} for name, settings in (
                ("first", {"made": {}, "none": {}}), ("second", {"none": {}}))}))
        self.block("made", "@data_loader\ndef f(): return [{'n': 1}, 'second']\n")
        self.ok("made")
        for uuid, product, upstream in (("a", "first", []), ("b", "second", ["a"])):
            self.block(uuid, None, "global_data_product", file=None, upstream=upstream,
                       configuration={"global_data_product": {"uuid": product}})
        answers = {"trigger_pipeline": {"run_id": None, "status": "completed"},
                   "get_variable": lambda given: {"dir": self.dir_of("made")} if given["block_uuid"] == "made" else None}
        self.ok("a", answers=answers)
        self.block("use", "@transformer\ndef f(product, **kwargs): return [product, kwargs['remote_blocks']]\n", "transformer",
                   upstream=["a"])
        # Those of the run are not told where a product comes before; nobody asks for them.
        self.ok("use", variables={"remote_blocks": [{"block_uuid": "x", "pipeline_uuid": "y"}]})
        self.assertEqual(self.stored("use"), [{"made": [{"n": 1}, "second"], "none": []}, [[{"n": 1}, "second"], []]])
        self.ok("b", answers=answers)
        self.assertEqual(self.last.calls[0]["arguments"]["variables"]["remote_blocks"], [
            {"block_uuid": uuid, "pipeline_uuid": "first_core", "repo_path": None, "execution_partition": None}
            for uuid in ("made", "none")])


if __name__ == "__main__":
    unittest.main()
