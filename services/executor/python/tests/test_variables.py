"""What every block gets as keyword arguments, and which source wins; and where a project's own files go."""
from __future__ import annotations

import datetime
import os
import sys
import tempfile
import unittest
from typing import Any, Dict
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import support  # noqa: F401

from mage_ai.settings import repo
from orrery_runner import variables

UTC = datetime.timezone.utc
AT = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def build(context: Any = None, **job: Any) -> Dict[str, Any]:
    block = {"uuid": "load", "configuration": {"limit": 5}}
    given = {"run_id": "r1", "block": block, "repo_path": "/p", "pipeline_uuid": "daily", "attempt_number": 2,
             "execution_date": "2024-01-02T05:04:05+02:00", "execution_partition": "7/20240102T030405", "trigger_name": "t"}
    return variables.build({**given, **job}, {} if context is None else context)


class Variables(unittest.TestCase):
    def test_computed_values_win_over_variables(self) -> None:
        context: Dict[str, Any] = {}
        computed = {
            "env": "prod", "execution_date": AT, "ds": "2024-01-02", "hr": "03", "event": {},
            "execution_partition": "7/20240102T030405", "trigger_name": "t", "configuration": {"limit": 5},
            "pipeline_uuid": "daily", "block_uuid": "load", "repo_path": "/p", "retry": {"attempts": 2}, "context": context,
            "pipeline_run_id": "r1"}
        given = {name: "mine" for name in computed if name != "event"}
        got = build(context, variables=given)
        self.assertEqual({name: got[name] for name in computed}, computed)
        self.assertIs(got["context"], context)
        self.assertTrue(callable(got["logger"].info))
        self.assertNotIn("dynamic_block_index", got)
        self.assertEqual(build(dynamic_block_index=0)["dynamic_block_index"], 0)

    def test_event_variables_fill_only_what_is_free(self) -> None:
        got = build(variables={"a": 1, "event": {"a": 2, "b": 3}}, event={"b": 4, "c": 5, "env": "x", "ds": "y"})
        self.assertEqual(got["event"], {"a": 2, "b": 4, "c": 5, "env": "x", "ds": "y"})
        self.assertEqual((got["a"], got["b"], got["c"], got["env"], got["ds"]), (1, 4, 5, "prod", "2024-01-02"))

    def test_interval_variables_are_instants(self) -> None:
        got = build(variables={"interval_start_datetime": "2024-01-02T03:04:05Z", "interval_end_datetime": None,
                               "interval_start_datetime_previous": "2024-01-01T03:04:05", "interval_seconds": 86400})
        self.assertEqual((got["interval_start_datetime"], got["interval_end_datetime"]), (AT, None))
        self.assertEqual(got["interval_start_datetime_previous"], AT - datetime.timedelta(days=1))
        self.assertEqual(got["interval_seconds"], 86400)

    def test_what_is_not_built_in_is_only_what_was_given(self) -> None:
        self.assertNotIn("run_date", build())
        self.assertEqual(build(variables={"run_date": "x", "list": [1, {"a": None}]})["list"], [1, {"a": None}])


class VariablesDir(unittest.TestCase):
    def test_which_folder_wins(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            project, home, data = (os.path.join(folder, name) for name in ("shop", "home", "data"))
            os.mkdir(project)

            def answered(metadata: str, **env: str) -> str:
                with open(os.path.join(project, "metadata.yaml"), "w", encoding="utf-8") as file:
                    file.write(metadata)
                with mock.patch.dict(os.environ, {
                        "MAGE_RUNTIME__REPO_PATH": project, "MAGE_DATA_DIR": "", "HOME": home, **env}):
                    return repo.get_variables_dir()

            for metadata, env, expected in (
                    ("", {}, f"{home}/.mage_data/shop"), (f"variables_dir: {data}", {}, f"{data}/shop"),
                    ("variables_dir: ~/kept", {}, f"{home}/kept/shop"),
                    ("variables_dir: kept", {}, f"{project}/kept"), ("variables_dir: ./", {}, project),
                    ("variables_dir: \"{{ env_var('PLACE') }}\"", {"PLACE": data}, f"{data}/shop"),
                    (f"variables_dir: {data}", {"MAGE_DATA_DIR": home}, f"{home}/shop"),
                    ("variables_dir: /proc/never", {}, "/proc/never/shop"),
                    ("variables_dir: s3://bucket/x", {}, f"{home}/.mage_data/shop"),
                    ("a: [", {}, f"{home}/.mage_data/shop")):
                self.assertEqual(answered(metadata, **env), expected, metadata)
                self.assertEqual(os.path.isdir(expected), "never" not in expected)


if __name__ == "__main__":
    unittest.main()
