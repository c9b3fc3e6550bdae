"""The zygote and its children as processes: limits, floods, crashes, rubbish."""
from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import PATIENCE_S, RUNNER, Child, ProjectCase, Zygote, readable, wait_for


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as children:
        return [int(child) for child in children.read().split()]


class Children(ProjectCase):
    def test_crashes_are_told_and_touch_no_other(self) -> None:
        self.block("kill", "import os, signal\n@data_loader\ndef f(): os.kill(os.getpid(), signal.SIGKILL)\n")
        self.block("leave", "import os\n@data_loader\ndef f(): os._exit(3)\n")
        self.block("good", "@data_loader\ndef f(): return 1\n")
        other = self.start()
        self.assertEqual(self.run_block("kill"), {})
        self.assertEqual(self.exit, {"signal": 9})
        self.assertEqual(self.run_block("leave"), {})
        self.assertEqual(self.exit, {"exit": 3})
        self.assertEqual(other.run(self.job("good"))["outcome"], "completed")
        self.assertEqual(other.end(), {"exit": 0})

    def test_memory_limit(self) -> None:
        self.block("greedy", "@data_loader\ndef f():\n    x = []\n    while True: x.append(bytearray(10 << 20))\n")
        self.fails("greedy", "OUT_OF_MEMORY", "out of memory: MemoryError; ", "300 MiB", "`memory_limit`",
                   request={"limits": {"memory_bytes": 300 << 20}})
        self.block("frame", "import pandas as pd, numpy as np\n@data_loader\n"
                            "def f(): return pd.DataFrame({'a': np.arange(1_000_000)})\n")
        self.ok("frame", request={"limits": {"memory_bytes": 300 << 20}})
        self.fails("greedy", "OUT_OF_MEMORY", request={"limits": {"memory_bytes": 64 << 20}})

    def test_children_are_what_a_machine_without_memory_ends_first(self) -> None:
        self.block("score", "@data_loader\ndef f():\n    print(open('/proc/self/oom_score_adj').read().strip())\n")
        self.ok("score")
        self.assertEqual(self.last.text("stdout"), "1000\n")

    def test_what_user_code_forks_ends_by_a_signal_as_ever(self) -> None:
        self.block("forks", """
import multiprocessing, time
@data_loader
def f():
    codes = []
    for _ in range(20):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join(20)
        codes.append(process.exitcode)
    print(set(codes))
""")
        self.ok("forks")
        self.assertEqual((self.last.text("stdout"), self.last.text("stderr")), ("{-15}\n", ""))

    def test_halves_of_characters_end_nothing(self) -> None:
        self.block("half", """
import json, os
from mage_ai.orchestration.triggers.api import trigger_pipeline
@data_loader
def f(*args, **kwargs):
    half = json.loads('"\\\\ud83d"')
    kwargs['logger'].info(os.fsdecode(b'caf\\xe9.csv'))
    kwargs['logger'].info('\U0001f600' + half + '\U0001f600' + 'low \\udc00 \\\\udce9 \\\\\\\\ud83d\\n"')
    trigger_pipeline('other', variables={half: half}, verbose=False)
    raise ValueError('not text: ' + half + half)
""")
        failed = self.fails("half", "USER_CODE", "ValueError: not text: \ufffd\ufffd",
                            answers={"trigger_pipeline": {"run_id": "r", "status": "running"}})
        self.assertIn("not text: \ufffd\ufffd", failed["traceback"])
        self.assertEqual([line["message"] for line in self.last.logs], [
            "caf\ufffd.csv", '\U0001f600\ufffd\U0001f600low \ufffd \\udce9 \\\\ud83d\n"'])
        self.assertEqual(self.last.calls[0]["arguments"]["variables"], {"\ufffd": "\ufffd"})
        self.assertEqual(self.exit, {"exit": 0})

    def test_marks_tell_the_order_of_what_is_written(self) -> None:
        self.block("mixed", "import logging, os, sys, tempfile\n@data_loader\ndef f():\n"
                            "    for n in range(2):\n"
                            "        print(n)\n        logging.info(n)\n        print(n, 'err', file=sys.stderr)\n"
                            "    pipe = os.dup(1)\n"
                            "    with tempfile.TemporaryFile() as file:\n"
                            "        os.dup2(file.fileno(), 1)\n        print('into a file')\n        os.dup2(pipe, 1)\n"
                            "        file.seek(0)\n        print(file.read())\n")
        self.ok("mixed")
        mark = lambda n: b"\x1b_%d\x1b\\" % n
        self.assertEqual([entry.get("mark") for entry in self.last.logs], [1, 4])
        self.assertEqual(self.last.written["stdout"], b"0\n" + mark(3) + b"1\n" + mark(6) + b"b'into a file\\n'\n")
        self.assertEqual(self.last.written["stderr"], mark(2) + b"0 err\n" + mark(5) + b"1 err\n")

    def test_floods_of_output(self) -> None:
        self.block("flood", "@data_loader\ndef f():\n    for i in range(10): print('x' * (1 << 20))\n"
                            "    print('\\ud800 é', end='')\n    import sys; print('err', file=sys.stderr)\n")
        self.ok("flood")
        self.assertEqual(len(self.last.output["stdout"]), 10 * ((1 << 20) + 1) + len("\\ud800 é".encode()))
        self.assertEqual(self.last.text("stderr"), "err\n")
        self.block("logs", "import logging\n@data_loader\ndef f():\n    logging.getLogger('x').warning('%s', 'y' * (2 << 20))\n"
                           "    logging.debug('no')\n    logging.error('bad')\n")
        self.ok("logs")
        self.assertEqual([entry["level"] for entry in self.last.logs], ["WARNING", "ERROR"])
        self.assertLess(len(self.last.logs[0]["message"]), 1 << 20)
        self.ok("logs", log_level="DEBUG")
        self.assertEqual([entry["level"] for entry in self.last.logs], ["WARNING", "DEBUG", "ERROR"])
        self.ok("logs", log_level="ERROR")
        self.assertEqual([entry["level"] for entry in self.last.logs], ["ERROR"])

    def test_cancel_reaches_a_group_that_hangs(self) -> None:
        self.block("hang", """
import os, time, subprocess
@data_loader
def f():
    if os.fork() == 0:
        time.sleep(1000)
    child = subprocess.Popen(['sleep', '1000'])
    try:
        print(child.pid, flush=True)
        time.sleep(1000)
    finally:
        print('tidied up', flush=True)
""")
        child = self.start()
        child.send({"type": "job", "job": self.job("hang")})
        sleeper = int(wait_for(lambda: child.text() if child.text().endswith("\n") else "", "the block to hang"))
        self.assertEqual(os.getsid(sleeper), child.pid)
        os.killpg(child.pid, signal.SIGTERM)
        self.assertEqual(child.answer(), {"signal": 15})
        os.killpg(child.pid, signal.SIGKILL)
        wait_for(lambda: not alive(sleeper), "the group to end")
        for reader in child.readers:
            reader.join(PATIENCE_S)
        self.assertIn("tidied up", child.text())

    def test_a_fork_that_returns_reports_nothing(self) -> None:
        self.block("fork", "import os\n@data_loader\ndef f():\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n"
                           "    return 'parent' if pid else 'child'\n")
        self.ok("fork")
        self.assertEqual(self.stored("fork"), ["parent"])
        self.assertEqual(self.exit, {"exit": 0})

    def test_threads_log_and_call(self) -> None:
        self.block("threads", """
import concurrent.futures, logging
from mage_ai.data_preparation.variable_manager import get_global_variable
@data_loader
def f():
    def one(i):
        logging.info('n %d', i)
        return get_global_variable(f'p{i}', 'x')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return [list(pool.map(one, range(50)))]
""")
        self.ok("threads", answers={"global_variables": lambda given: {"x": int(given["pipeline_uuid"][1:])}})
        self.assertEqual(self.stored("threads"), [list(range(50))])
        self.assertEqual(len(self.last.logs), 50)

    def test_environment(self) -> None:
        self.block("env", "import os, sys\n@data_loader\ndef f(): return [dict(os.environ), os.getcwd(), os.getpid() == os.getsid(0),"
                          " sys.stdin.read()]\n")
        self.ok("env", request={"env": {"A": "b"}, "cwd": self.root, "name": "shop/env"})
        self.assertEqual(self.stored("env"), [{"A": "b", "MAGE_RUNTIME__REPO_PATH": self.repo}, self.root, True, ""])

    def test_children_draw_different_numbers(self) -> None:
        self.block("draw", "import random, numpy\n@data_loader\ndef f(): return random.random(), float(numpy.random.rand())\n")
        self.ok("draw")
        self.ok("draw", output_dir=self.dir_of("again"))
        for one, other in zip(self.stored("draw"), self.stored("again")):
            self.assertNotEqual(one, other)

    def test_whoever_cares_for_forks_is_told_of_them(self) -> None:
        told = ("import os, sys\nfrom orrery_runner import forking\nforking.watch()\nimport threading\n{}"
                "forking.settle()\npid = forking.fork()\nif pid == 0: os._exit(7 if told else 3)\n"
                "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), forking._fork is os.fork)\n")
        cares = "told = []\nos.register_at_fork(after_in_child=lambda: told.append(1))\n"
        for code, expected in (("told = []\n", "3 False"), (cares, "7 True")):
            said = subprocess.run([sys.executable, "-c", told.format(code)], env={**os.environ, "PYTHONPATH": RUNNER},
                                  stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_S).stdout
            self.assertEqual(said.strip(), expected)

    def test_a_child_leaks_no_descriptor(self) -> None:
        self.block("fds", "import os\n@data_loader\ndef f(): return [sorted(int(fd) for fd in os.listdir('/proc/self/fd'))]\n")
        holders = [self.start() for _ in range(3)]
        self.ok("fds")
        # The three standard ones, the control channel, and the listing's own.
        self.assertLessEqual(len(self.stored("fds")[0]), 6, self.stored("fds"))
        for holder in holders:
            self.assertEqual(holder.end(), {"exit": 0})

    def test_rubbish_frames(self) -> None:
        child = self.start()
        child.send({"type": "nonsense"})
        child.send({"type": "job", "job": {"block": {"uuid": "x"}}})
        result = child.result()
        self.assertEqual((result["outcome"], result["code"]), ("failed", "USER_CODE"))
        child.control.sendall(struct.pack(">I", 1 << 31))
        self.assertEqual(child.ended(), {"exit": 70})
        child = self.start()
        child.control.sendall(struct.pack(">I", 4) + b"{{{{")
        self.assertEqual(child.ended(), {"exit": 70})
        child = self.start()
        child.control.close()
        self.assertEqual(child.answer(), {"exit": 0})

    def test_disk_full(self) -> None:
        self.block("big", "import resource\n@data_loader\ndef f():\n    import errno, os\n    def full(*a):\n"
                          "        raise OSError(errno.ENOSPC, 'No space left on device')\n    os.fsync = full\n    return 1\n")
        self.fails("big", "DISK_FULL", "no space left")
        self.assertEqual(os.listdir(self.out), [])


class Packets(unittest.TestCase):
    def setUp(self) -> None:
        self.zygote = Zygote(idle=1)
        self.addCleanup(self.zygote.close)

    def start(self) -> Child:
        child = self.zygote.start()
        self.addCleanup(child.close)
        return child

    def test_rubbish_packets(self) -> None:
        reads, writes = os.pipe()
        self.addCleanup(os.close, reads)
        self.addCleanup(os.close, writes)
        for data, fds in [(b"\xff\xfe", 3), (b"[1]", 3), (b"{}", 0), (b"{}", 2), (b'{"env": {"A": 1}}', 3),
                          (b'{"limits": {"memory_bytes": -1}}', 3), (b"[" * 100000, 3), (b'{"env": {"A=B": "c"}}', 3)]:
            connection = self.zygote.connect()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writes] * fds))] if fds else []
            connection.sendmsg([data], rights)
            self.assertIn("error", json.loads(connection.recv(1 << 16)), data[:40])
            connection.close()
        self.zygote.connect().close()
        child = self.start()
        self.assertEqual(child.end(), {"exit": 0})

    def test_idle_children_are_replaced_and_killed_with_the_zygote(self) -> None:
        pid = self.zygote.process.pid
        idle = wait_for(lambda: children_of(pid), "an idle child")
        os.kill(idle[0], signal.SIGKILL)
        wait_for(lambda: [c for c in children_of(pid) if c != idle[0] and alive(c)], "its replacement")
        child = self.start()
        wait_for(lambda: len(children_of(pid)) == 2, "a new idle child")
        everybody = children_of(pid)
        self.assertIn(child.pid, everybody)
        self.zygote.process.stdin.close()
        self.assertEqual(self.zygote.process.wait(PATIENCE_S), 0)
        wait_for(lambda: not any(map(alive, everybody)), "all children to end")
        self.assertFalse(os.path.exists(self.zygote.path))

    def test_children_die_with_a_killed_zygote(self) -> None:
        child = self.start()
        everybody = wait_for(lambda: len(c := children_of(self.zygote.process.pid)) == 2 and c, "an idle child")
        self.zygote.process.kill()
        wait_for(lambda: not any(map(alive, everybody)), "all children to end")
        self.assertIn(child.pid, everybody)

    def test_a_closed_connection_leaves_the_child(self) -> None:
        child = self.start()
        child.connection.close()
        self.assertFalse(readable(child.control, 0.2))
        self.assertTrue(alive(child.pid))
        child.send({"type": "end"})
        wait_for(lambda: not alive(child.pid), "the child to end")
        again = self.start()
        self.assertEqual(again.end(), {"exit": 0})

    def test_one_thread_and_a_private_socket(self) -> None:
        self.assertEqual(len(os.listdir(f"/proc/{self.zygote.process.pid}/task")), 1)
        self.assertEqual(os.stat(self.zygote.path).st_mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
