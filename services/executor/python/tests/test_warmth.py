"""What the zygote does once for all children: rehearsals, and where their memory lies."""
from __future__ import annotations

import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import PATIENCE_S, RUNNER, ProjectCase, Zygote, wait_for


def said(code: str) -> str:
    """What a Python of its own prints."""
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": RUNNER}, stdout=subprocess.PIPE,
                          text=True, check=True, timeout=PATIENCE_S).stdout.strip()


class Warmth(unittest.TestCase):
    def test_a_rehearsal_completes_and_leaves_nothing(self) -> None:
        self.assertEqual(said("""
import os, signal, sys
from orrery_runner import attempt, child, current, order, outputs, rehearsal, zygote
zygote.warm_up()
results, run = [], attempt.Process.run
attempt.Process.run = lambda *given: results.append(run(*given)) or results[-1]
def state():
    streams = [stream.buffer.raw._pipe for stream in (sys.stdout, sys.stderr)]
    return (dict(os.environ), os.getcwd(), sys.path[:], sorted(sys.modules), sorted(os.listdir('/proc/self/fd')), streams,
            order._last, current.job(), child._channel.is_open, signal.getsignal(signal.SIGTERM))
before = state()
source = os.path.join(sys.argv[0], 'no such folder')
rehearsal.run()
rehearsal.run_often()
after = state()
print({result['outcome'] for result in results}, len(results) > 20, before == after)
"""), "{'completed'} True True")

    def test_code_that_is_gathered_is_what_it_was(self) -> None:
        self.assertEqual(said("""
import traceback
from orrery_runner import packing
def made(name):
    space = {}
    exec(compile('def outer():\\n def inner(): raise ValueError\\n return inner\\n', name, 'exec'), space)
    return space['outer']
one, other, never = made('one'), made('other'), made('never')
before = [function.__code__ for function in (one, other, never)]
def run():
    for outer in (one, other):
        try: outer()()
        except ValueError as error: raised.append(traceback.extract_tb(error.__traceback__)[-1].filename)
raised = []
packing.gather(run)
raised.clear()
run()
print(raised, before[0] == before[1], [function.__code__ is code for function, code in zip((one, other, never), before)])
"""), "['one', 'other'] True [False, False, True]")

    def test_what_comes_after_a_filling_lies_together(self) -> None:
        """Whatever holes there were: of all lengths, in all of memory."""
        self.assertEqual(said("""
from orrery_runner import packing
lengths = (*range(64, 512, 48), *range(560, 30_000, 720))
held = [[bytearray(length) for length in lengths] for _ in range(200)]
del held[::2]
packing.fill()
small = [bytes(length - 34) for length in lengths if length < 512 for _ in range(10)]
# Six pages full, and each length begins one; scattered over the holes they lie on twice as many.
print(len({id(piece) >> 12 for piece in small}) <= 20)
large = [bytes(length) for length in lengths if length > 512]
# Whatever has let go of a little meanwhile has left holes.
print(sum(max(map(id, large)) - id(piece) < 1 << 20 for piece in large) >= 36, len(large))
"""), "True\nTrue 41")


    def test_what_is_imported_lies_in_one_stretch_and_what_nobody_needs_is_given_back(self) -> None:
        self.assertEqual(said("""
import mmap, resource
from orrery_runner import packing
size = lambda: int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() >> 20
before = size()
packing.reserve()
reserved = size() - before
packing.release()
print(reserved >= 36, size() - before < 4)
packing.reserve()
objects, libraries = [], []
for number in range(200):
    libraries.append(mmap.mmap(-1, 3 << 18))
    objects += [bytes(100 + number) for _ in range(500)]
packing.release()
print(max(map(id, objects)) - min(map(id, objects)) >> 20 < 64)
"""), "True True\nTrue")


class ToldOfForks(ProjectCase):
    """Somebody may have asked to be told of forks before the zygote could notice, so all of its forks are Python's own."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.zygote = Zygote(start=("-c", "import threading\nfrom orrery_runner import zygote\nzygote.main()"))
        cls.addClassCleanup(cls.zygote.close)

    def test_sigterm_unwinds_user_code_and_ends_what_it_forked(self) -> None:
        self.block("waits", "import os, signal, time\n@data_loader\ndef f():\n    pid = os.fork()\n    if not pid: time.sleep(60)\n"
                            "    os.kill(pid, signal.SIGTERM)\n    print(os.waitpid(pid, 0)[1], flush=True)\n"
                            "    try: time.sleep(60)\n    finally: print('unwound')\n")
        child = self.start()
        child.send({"type": "job", "job": self.job("waits")})
        wait_for(lambda: child.text() == "15\n", "the end of what it forked")
        os.kill(child.pid, 15)
        self.assertEqual((child.result(), child.ended(), child.text()), ({}, {"signal": 15}, "15\nunwound\n"))

    def test_a_level_is_that_of_one_job(self) -> None:
        self.block("logs", "import logging\n@data_loader\ndef f():\n    logging.debug('d')\n    logging.info('i')\n"
                           "    logging.getLogger().setLevel('ERROR')\n")
        child = self.start()
        for level in ("DEBUG", None, None):
            self.assertEqual(child.run(self.job("logs", log_level=level))["outcome"], "completed")
        self.assertEqual([entry["message"] for entry in child.logs], ["d", "i", "i", "i"])
        self.assertEqual(child.end(), {"exit": 0})
