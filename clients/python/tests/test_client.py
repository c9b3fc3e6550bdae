"""The client against a server that answers what a test says, over real sockets."""
from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import unittest
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Tuple
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import orrery
from orrery import transport

Answer = Tuple[int, Any]


class Server:
    """Answers each method by a function of the request."""

    def __init__(self) -> None:
        self.answers: Dict[str, Callable[[Dict[str, Any]], Answer]] = {}
        self.requests: List[Tuple[str, Dict[str, Any], Dict[str, str]]] = []
        # What is downloaded, by path and file: what it is, and its bytes. Of each so many bytes do not come.
        self.files: Dict[Tuple[str, str], Tuple[Dict[str, Any], bytes]] = {}
        self.missing = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                method = self.path.rsplit("orrery.v1.", 1)[-1]
                outer.requests.append((method, json.loads(body), dict(self.headers)))
                status, document = outer.answers[method](json.loads(body))
                lines = document if isinstance(document, list) else [document]
                payload = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                outer.requests.append((path, dict(urllib.parse.parse_qsl(query)), dict(self.headers)))
                found = outer.files.get((path, dict(urllib.parse.parse_qsl(query)).get("file", "")))
                status, about, payload = (200, *found) if found else (403, {}, b"")
                if not found:
                    payload = json.dumps(refusal("permission_denied", "NOT_ALLOWED")).encode()
                self.send_response(status)
                self.send_header("orrery-output", json.dumps(about))
                self.send_header("Content-Length", str(len(payload) + outer.missing))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def refusal(code: str, reason: str) -> Dict[str, Any]:
    return {"code": code, "message": f"refused: {reason}", "details": [{"debug": {"reason": reason}}]}


class ClientTests(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.addCleanup(self.server.close)
        self.client = orrery.Client(self.server.url, token="secret")
        quick = mock.patch.object(transport.time, "sleep", lambda _seconds: None)
        quick.start()
        self.addCleanup(quick.stop)

    def test_a_workspace_is_made_once(self) -> None:
        there: List[str] = []

        def get(message: Dict[str, Any]) -> Answer:
            return (200, {"workspace": {"name": message["name"]}}) if there else (404, refusal("not_found", "WORKSPACE_NOT_FOUND"))

        def create(message: Dict[str, Any]) -> Answer:
            there.append(message["name"])
            return 200, {"workspace": {"name": message["name"], "createdAt": "2026-01-02T03:04:05.123456789Z"}}

        self.server.answers = {"WorkspaceService/GetWorkspace": get, "WorkspaceService/CreateWorkspace": create}
        with self.assertRaises(orrery.NotFound) as refused:
            self.client.get_workspace("sales")
        self.assertEqual(refused.exception.reason, "WORKSPACE_NOT_FOUND")
        workspace = self.client.get_workspace("sales", create_if_not_exist=True)
        self.assertEqual((workspace.name, workspace.created_at.microsecond), ("sales", 123456))
        self.client.get_workspace("sales", create_if_not_exist=True)
        self.assertEqual(there, ["sales"])
        self.assertEqual(self.server.requests[0][2]["Authorization"], "Bearer secret")

    def test_a_name_that_is_taken_by_others_stays_taken(self) -> None:
        self.server.answers = {
            "WorkspaceService/GetWorkspace": lambda _: (404, refusal("not_found", "WORKSPACE_NOT_FOUND")),
            "WorkspaceService/CreateWorkspace": lambda _: (409, refusal("already_exists", "WORKSPACE_EXISTS"))}
        with self.assertRaises(orrery.NotFound):
            self.client.get_workspace("theirs", create_if_not_exist=True)

    def test_lists_are_read_page_by_page_up_to_a_limit(self) -> None:
        def page(message: Dict[str, Any]) -> Answer:
            start = int(message["pageToken"] or 0)
            rows = [{"id": str(n), "status": "RUN_STATUS_FAILED"} for n in range(start, min(start + message["pageSize"], 700))]
            return 200, {"runs": rows, "nextPageToken": str(start + len(rows)) if start + len(rows) < 700 else ""}

        self.server.answers = {"RunService/ListRuns": page}
        workspace = orrery.Workspace(self.client._transport, {"name": "sales"})
        self.assertEqual(len(workspace.list_runs(limit=600)), 600)
        self.assertEqual(len(workspace.list_runs(limit=9_999)), 700)
        self.assertEqual(workspace.list_runs(statuses=("failed",), limit=1)[0].status, "failed")
        self.assertEqual(self.server.requests[-1][1]["statuses"], ["RUN_STATUS_FAILED"])

    def test_a_start_is_repeated_with_its_key_while_the_server_is_away(self) -> None:
        tries: List[str] = []

        def create(message: Dict[str, Any]) -> Answer:
            tries.append(message["idempotencyKey"])
            return (200, {"run": {"id": "r1"}}) if len(tries) == 3 else (503, refusal("unavailable", "NO_SCHEDULER"))

        self.server.answers = {"RunService/CreateRun": create}
        pipeline = orrery.Pipeline(self.client._transport, {"workspace": "sales", "name": "daily"})
        self.assertEqual(pipeline.run(variables={"a": 1}, timeout=1.5).id, "r1")
        self.assertEqual((len(tries), len(set(tries))), (3, 1))
        self.assertEqual(self.server.requests[-1][1]["timeout"], "1.500s")

    def test_waiting_ends_with_the_run_or_in_time(self) -> None:
        looks: List[int] = []

        def get(_message: Dict[str, Any]) -> Answer:
            looks.append(1)
            return 200, {"run": {"id": "r1", "status": "RUN_STATUS_FAILED" if len(looks) > 2 else "RUN_STATUS_RUNNING",
                                 "reason": "block x failed"}}

        self.server.answers = {"RunService/GetRun": get}
        run = orrery.Run(self.client._transport, {"id": "r1"})
        with self.assertRaises(orrery.RunFailed) as failed:
            run.wait()
        self.assertIn("block x failed", str(failed.exception))
        self.assertEqual(run.wait(check=False).status, "failed")
        looks.clear()
        with self.assertRaises(orrery.WaitTimeout):
            run.wait(timeout=0)

    def test_values_are_had_only_whole(self) -> None:
        def get(message: Dict[str, Any]) -> Answer:
            outputs = [
                {"name": "output_0", "kind": "dataframe", "rows": "2", "sizeBytes": "9", "complete": True,
                 "columns": [{"name": "n", "type": "int64"}, {"name": "n", "type": "int64"}], "sample": [[1.0, 2.0], [3.0, None]]},
                {"name": "output_1", "kind": "json", "rows": "-1", "text": "{\"a\": [1]}", "complete": True},
                {"name": "output_2", "kind": "json", "rows": "3", "sample": [1.0, "b", None], "text": "[1, \"b\", null]",
                 "complete": True},
                {"name": "output_3", "kind": "dataframe", "rows": "9000", "sample": [[1]], "columns": [{"name": "n"}]}]
            return 200, {"outputs": [o for o in outputs if message["name"] in ("", o["name"])]}

        self.server.answers = {"OutputService/GetOutputs": get}
        run = orrery.Run(self.client._transport, {"id": "r1"})
        self.assertEqual(run.get_variable("load"), [{"n": 1, "n.1": 2}, {"n": 3, "n.1": None}])
        self.assertIs(type(run.get_variable("load")[0]["n"]), int)
        self.assertEqual(run.get_variable("load", "output_1"), {"a": [1]})
        self.assertEqual(run.get_variable("load", "output_2"), [1, "b", None])
        large = run.output("load", "output_3", child=4)
        self.assertEqual((large.row_count, large.rows()), (9000, [{"n": 1}]))
        self.assertEqual(self.server.requests[-1][1]["child"], 4)
        with self.assertRaises(orrery.Incomplete):
            large.value()
        self.server.answers["OutputService/GetOutputs"] = lambda _: (
            200, {"outputs": [{"name": "output_0", "kind": "json"}], "expiredAt": "2026-01-02T00:00:00Z"})
        with self.assertRaisesRegex(orrery.Incomplete, "gone since 2026"):
            run.get_variable("load")

    def _stores(self, files: Dict[str, bytes], kind: str, in_header: bool = True) -> orrery.Run:
        """A run whose block `a/b` left an output with these files, of which nothing was noted; a header may have room for
        their names or not."""
        path, names = "/api/v1/runs/r1/blocks/a%2Fb/outputs/output_0/content", list(files)
        for place, (name, content) in enumerate(files.items()):
            about = {"name": name, "kind": kind, **({"files": names} if in_header else {})}
            self.server.files[(path, name)] = (about, content)
            if not place:
                self.server.files[(path, "")] = (about, content)
        self.server.answers["OutputService/DownloadOutput"] = lambda _: (200, [{"file": {"files": names}}, {"chunk": "WzFd"}])
        self.server.answers["OutputService/GetOutputs"] = lambda _: (200, {"outputs": [
            {"name": "output_0", "kind": kind, "columns": [{"name": "n"}] if kind == "dataframe" else []}]})
        return orrery.Run(self.client._transport, {"id": "r1"})

    def test_what_was_not_noted_whole_is_fetched(self) -> None:
        many = list(range(300_000))
        run = self._stores({"output_0/data.json": json.dumps(many).encode()}, "json")
        self.assertEqual(run.get_variable("a/b"), many)
        self.assertEqual(run.get_variables("a/b"), {"output_0": many})
        for in_header in (True, False):
            parts = {f"output_0/{part}/data.json": json.dumps(part).encode() for part in range(11)}
            run = self._stores(parts, "parts", in_header)
            self.assertEqual(run.get_variable("a/b"), list(range(11)))

        run = self._stores({"output_0/object.joblib": b"\x80"}, "custom_object")
        with self.assertRaisesRegex(orrery.Incomplete, "save_output"):
            run.get_variable("a/b")
        with tempfile.TemporaryDirectory() as folder:
            saved = run.save_output("a/b", folder)
            self.assertEqual(saved, [os.path.join(folder, "output_0", "object.joblib")])
            with open(saved[0], "rb") as file:
                self.assertEqual(file.read(), b"\x80")
            for outside in ("../evil", "/etc/evil", "output_0//evil"):
                run = self._stores({outside: b"x"}, "custom_object")
                with self.assertRaisesRegex(orrery.Error, "no path of an output"):
                    run.save_output("a/b", folder)

    def test_a_download_that_breaks_off_is_no_value(self) -> None:
        run = self._stores({"output_0/data.json": b"[1, 2]"}, "json")
        self.server.missing = 1
        with self.assertRaises(orrery.Unavailable):
            run.get_variable("a/b")
        self.server.missing = 0
        self.server.files.clear()
        with self.assertRaises(orrery.Denied):
            run.get_variable("a/b")

    def test_a_large_table_needs_pandas_or_is_one(self) -> None:
        try:
            import pandas
            import pyarrow  # noqa: F401
        except ImportError:
            run = self._stores({"output_0/data.parquet": b"PAR1"}, "dataframe")
            with self.assertRaisesRegex(orrery.Incomplete, "install pandas"):
                run.get_variable("a/b")
            return
        frame = pandas.DataFrame({"n": range(5_000), "s": [f"row {n}" for n in range(5_000)]})
        with tempfile.TemporaryDirectory() as folder:
            frame.to_parquet(os.path.join(folder, "t"))
            with open(os.path.join(folder, "t"), "rb") as file:
                content = file.read()
        types = json.dumps({"dtypes": ["int64", "object"], "encoded": []}).encode()
        files = {"output_0/data.parquet": content, "output_0/data_column_types.json": types}
        pandas.testing.assert_frame_equal(self._stores(files, "dataframe").get_variable("a/b"), frame)

    def test_logs_are_followed_to_their_end_and_to_an_error(self) -> None:
        self.server.answers = {"LogService/TailLogs": lambda _: (
            200, [{"lines": [{"message": "one"}, {"message": "Two"}]}, {"lines": [{"message": "three"}]}])}
        run = orrery.Run(self.client._transport, {"id": "r1"})
        self.assertEqual([line.message for line in run.logs(follow=True)], ["one", "Two", "three"])
        self.assertEqual([line.message for line in run.logs(follow=True, text="tw")], ["Two"])
        self.server.answers = {"LogService/TailLogs": lambda _: (
            200, [{"lines": []}, {"error": refusal("unavailable", "DRAINING")}])}
        with self.assertRaises(orrery.Unavailable):
            list(run.logs(follow=True))

    def test_what_goes_wrong_below_is_an_error_of_ours(self) -> None:
        self.server.answers = {"RunService/GetRun": lambda _: (401, refusal("unauthenticated", "NO_TOKEN"))}
        with self.assertRaises(orrery.Denied):
            self.client.get_run("r1")
        self.server.answers = {"RunService/GetRun": lambda _: (302, {})}
        with self.assertRaisesRegex(orrery.Error, "302"):
            self.client.get_run("r1")
        with self.assertRaisesRegex(orrery.Unavailable, "does not answer"):
            orrery.Client("http://127.0.0.1:1").get_run("r1")
        with self.assertRaises(orrery.InvalidRequest):
            orrery.Client("localhost:7070")
        with tempfile.NamedTemporaryFile("w") as file:
            with self.assertRaisesRegex(orrery.Denied, "empty"):
                orrery.Client(self.server.url, token_file=file.name)
            file.write("first\nsecond\n")
            file.flush()
            self.assertEqual(orrery.Client(self.server.url, token_file=file.name)._transport._token, "first")


if __name__ == "__main__":
    unittest.main()
