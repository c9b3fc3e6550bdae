"""Drives a real zygote over its socket, as the executor does."""
from __future__ import annotations

import array
import importlib
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import Any, Callable, Dict, List, Optional, Sequence

RUNNER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE_S = 120.0
if RUNNER not in sys.path:
    sys.path.insert(0, RUNNER)


def wait_for(check: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Waits for a level, with a limit."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {patience_s} s in vain for {what}")


class Zygote:
    """A zygote process and its socket."""

    def __init__(self, idle: int = 2, start: Sequence[str] = ("-m", "orrery_runner.zygote")) -> None:
        self.folder = tempfile.mkdtemp(prefix="zygote-")
        self.path = os.path.join(self.folder, "s")
        env = {**os.environ, "PYTHONPATH": RUNNER}
        self.process = subprocess.Popen(
            [sys.executable, "-u", *start, "--socket", self.path, "--idle", str(idle)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd="/")
        line = self.process.stdout.readline()
        if line != b"ready\n":
            raise AssertionError(f"the zygote said {line!r}")

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(PATIENCE_S)
        connection.connect(self.path)
        return connection

    def start(self, **request: Any) -> "Child":
        return Child(self.connect(), request)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Child:
    """One child process: its descriptors, frames and end."""

    def __init__(self, connection: socket.socket, request: Dict[str, Any]) -> None:
        self.connection = connection
        self.control, control = socket.socketpair()
        self.control.settimeout(PATIENCE_S)
        self.logs: List[Dict[str, Any]] = []
        self.calls: List[Dict[str, Any]] = []
        self.answers: Dict[str, Any] = {}
        self.written = {"stdout": b"", "stderr": b""}
        pipes = {name: os.pipe() for name in self.written}
        fds = [pipes["stdout"][1], pipes["stderr"][1], control.fileno()]
        request = {"env": {"PATH": os.environ.get("PATH", ""), "HOME": tempfile.gettempdir()}, **request}
        connection.sendmsg([json.dumps(request).encode()],
                           [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        control.close()
        self.readers = []
        for name, (read, write) in pipes.items():
            os.close(write)
            reader = threading.Thread(target=self._drain, args=(name, read), daemon=True)
            reader.start()
            self.readers.append(reader)
        answer = self.answer()
        if "pid" not in answer:
            raise AssertionError(f"the zygote answered {answer}")
        self.pid = answer["pid"]

    def _drain(self, name: str, fd: int) -> None:
        while True:
            data = os.read(fd, 1 << 20)
            if not data:
                os.close(fd)
                return
            self.written[name] += data

    @property
    def output(self) -> Dict[str, bytes]:
        """What was printed, without the marks of its order."""
        return {name: re.sub(rb"\x1b_\d+\x1b\\", b"", data) for name, data in self.written.items()}

    def answer(self) -> Dict[str, Any]:
        return json.loads(self.connection.recv(1 << 16) or b"{}")

    def send(self, frame: Dict[str, Any]) -> None:
        body = json.dumps(frame).encode()
        self.control.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> Optional[Dict[str, Any]]:
        header = self._exactly(4)
        if header is None:
            return None
        return json.loads(self._exactly(struct.unpack(">I", header)[0]))

    def _exactly(self, count: int) -> Optional[bytes]:
        parts = b""
        while len(parts) < count:
            part = self.control.recv(count - len(parts))
            if not part:
                return None
            parts += part
        return parts

    def run(self, job: Dict[str, Any]) -> Dict[str, Any]:
        """Sends a job and answers its calls until the result; {} if the process ended without one."""
        self.send({"type": "job", "job": job})
        return self.result()

    def result(self) -> Dict[str, Any]:
        while True:
            try:
                frame = self.receive()
            except ConnectionError:
                frame = None
            if frame is None:
                return {}
            if frame["type"] == "result":
                return frame["result"]
            if frame["type"] == "log":
                self.logs.append(frame)
            elif frame["type"] == "call":
                self._reply(frame)

    def _reply(self, call: Dict[str, Any]) -> None:
        self.calls.append(call)
        answer = self.answers.get(call["method"])
        try:
            result = answer(call["arguments"]) if callable(answer) else answer
            self.send({"type": "reply", "id": call["id"], "result": result})
        except Exception as error:
            self.send({"type": "reply", "id": call["id"], "error": str(error)})

    def end(self) -> Dict[str, Any]:
        """Ends the process in order; how it ended."""
        try:
            self.send({"type": "end"})
        except OSError:
            pass
        return self.ended()

    def ended(self) -> Dict[str, Any]:
        """How the process ended, with all of its output read."""
        answer = self.answer()
        for reader in self.readers:
            reader.join(PATIENCE_S)
        self.control.close()
        self.connection.close()
        return answer

    def close(self) -> None:
        self.control.close()
        self.connection.close()

    def text(self, name: str = "stdout") -> str:
        return self.output[name].decode("utf-8", "replace")


class ProjectCase(unittest.TestCase):
    """A project folder, a zygote shared by the class, and blocks that run in it."""

    zygote: Zygote

    @classmethod
    def setUpClass(cls) -> None:
        cls.zygote = Zygote()
        cls.addClassCleanup(cls.zygote.close)

    def setUp(self) -> None:
        self.root = tempfile.mkdtemp(prefix="runner-")
        self.addCleanup(shutil.rmtree, self.root, True)
        self.repo = os.path.join(self.root, "shop")
        self.out = os.path.join(self.root, "out")
        os.makedirs(self.repo)
        os.makedirs(self.out)
        self.blocks: Dict[str, Dict[str, Any]] = {}
        self.last: Optional[Child] = None

    def start(self, **request: Any) -> Child:
        child = self.zygote.start(**request)
        self.addCleanup(child.close)
        return child

    def file(self, path: str, text: str) -> str:
        path = os.path.join(self.repo, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def block(self, uuid: str, code: Optional[str] = None, kind: str = "data_loader", language: str = "python",
              upstream: Any = (), **fields: Any) -> Dict[str, Any]:
        folder = kind if kind in ("custom", "dbt") else kind + "s"
        path = f"{folder}/{uuid}.{ {'python': 'py', 'r': 'r', 'sql': 'sql', 'markdown': 'md', 'yaml': 'yaml'}[language]}"
        if code is not None:
            self.file(path, code)
        block = {"uuid": uuid, "name": uuid, "kind": kind, "language": language, "file": path,
                 "upstream": list(upstream), "configuration": {}, "dynamic": False, "reduce_output": False, **fields}
        self.blocks[uuid] = block
        return block

    def dir_of(self, uuid: str) -> str:
        return os.path.join(self.out, uuid.replace("/", "__"))

    def job(self, uuid: str, **fields: Any) -> Dict[str, Any]:
        block = self.blocks[uuid]
        inputs = [{"block": parent, "mode": "whole", "dirs": [self.dir_of(parent)]} for parent in block["upstream"]]
        return {
            "run_id": "00000000-0000-0000-0000-000000000001", "block_run_id": f"run/{uuid}", "lease": 1,
            "attempt_number": 1, "mode": "block", "repo_path": self.repo, "project_name": "shop",
            "pipeline_uuid": "sales", "workspace": "default", "block": block,
            "upstream": {parent: self.blocks[parent] for parent in block["upstream"]}, "conditions": [],
            "downstream": [{key: other[key] for key in ("uuid", "kind", "language")} for other in self.blocks.values()
                           if uuid in other["upstream"]],
            "inputs": inputs, "output_dir": self.dir_of(uuid), "keep_in_memory": False, "dynamic_block_index": None,
            "variables": {}, "event": {}, "execution_date": "2024-02-29T13:14:15.123456789Z",
            "execution_partition": "3/20240229T131415", "trigger_name": "nightly", "callback": None,
            "pipeline": {"dynamic": [], "kind": "python"}, **fields}

    def run_block(self, uuid: str, answers: Optional[Dict[str, Any]] = None, request: Optional[Dict[str, Any]] = None,
                  **fields: Any) -> Dict[str, Any]:
        child = self.start(**(request or {}))
        child.answers = answers or {}
        self.last = child
        result = child.run(self.job(uuid, **fields))
        self.exit = child.end()
        return result

    def ok(self, uuid: str, **fields: Any) -> Dict[str, Any]:
        result = self.run_block(uuid, **fields)
        self.assertEqual(result.get("outcome"), "completed", f"{result} {self.last.output}")
        return result

    def fails(self, uuid: str, code: str, *parts: str, **fields: Any) -> Dict[str, Any]:
        result = self.run_block(uuid, **fields)
        self.assertEqual((result.get("outcome"), result.get("code")), ("failed", code), f"{result} {self.last.output}")
        for part in parts:
            self.assertIn(part, result["message"])
        return result

    def stored(self, uuid: str) -> List[Any]:
        from orrery_runner import outputs

        return outputs.read(self.dir_of(uuid))


def library(case: unittest.TestCase, name: str) -> Any:
    """A library that the base environment does not hold; without it the test is skipped, and counted as that."""
    try:
        return importlib.import_module(name)
    except ImportError:
        case.skipTest(f"NO {name.upper()}: `cargo xtask test --libraries` tries it")


def readable(fd: Any, patience_s: float) -> bool:
    """Whether something can be read in time."""
    return bool(select.select([fd], [], [], patience_s)[0])
