"""The zygote: imports what is slow once and forks one child per attempt; a few children wait already forked.

It never runs user code and never starts a thread, since a fork copies only the calling thread. It knows packets and
process ids, not jobs.
"""
from __future__ import annotations

import os
import sys

# `python -m` put the working folder first; nothing may be imported from wherever the executor stands.
if __name__ == "__main__" and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

_VARIABLES = {
    # A forked child would inherit locks of the threads of a pool, but not the threads.
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    # Arrow's other allocators reserve address space in gigabytes, which a memory limit by address space would count.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    # The allocator that Arrow carries would start a thread even unused.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_given = frozenset(os.environ) - {*_VARIABLES, "PYTHONPATH"}
# Read by libraries when they are loaded, so before any import.
os.environ.update(_VARIABLES)

from orrery_runner import forking

forking.watch()

from orrery_runner import libraries, packing

packing.reserve()
# Before anything that every child runs, so that those things lie together.
libraries.load()
packing.fill()

import _signal
import argparse
import array
import gc
import importlib
import json
import select
import signal
import socket
import time
import traceback
from typing import Any, Dict, List, Optional, Tuple

from orrery_runner import child, kernel, rehearsal, seeds

PACKET_BYTES_MAX = 1024 * 1024
FDS_PER_PACKET = 3
# A socket takes packets of this length without being told to.
_PACKET_BYTES_USUAL = 128 * 1024
CONNECTIONS_MAX = 4096
IDLE_MAX = 64
# A fork right after a dispatch would take the processor from the child that was just woken.
REPLENISH_AFTER_S = 0.005
_SIGCHLD, _SIG_DFL = int(signal.SIGCHLD), int(signal.SIG_DFL)
# As a number: an enumeration's own operators are Python.
_MSG_TRUNC = int(socket.MSG_TRUNC)
_OURS = ("orrery_runner.sql", "mage_ai.data_preparation.decorators", "mage_ai.io.config", "mage_ai.io.file",
         "mage_ai.settings.repo")

# Received into again and again: a fresh buffer of that length would be mapped and unmapped for every packet.
_packet = memoryview(bytearray(PACKET_BYTES_MAX))
_ROOM = socket.CMSG_SPACE(FDS_PER_PACKET * 2 * array.array("i").itemsize)


def receive_packet(sock: socket.socket, flags: int = 0) -> Tuple[bytes, List[int]]:
    """One packet and the descriptors that came with it; all of them are the caller's to close."""
    fds = array.array("i")
    length, ancillary, flags, _ = sock.recvmsg_into([_packet], _ROOM, flags)
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    if flags & _MSG_TRUNC:
        close_all(fds)
        raise ValueError(f"the packet is over the limit of {PACKET_BYTES_MAX} bytes")
    return bytes(_packet[:length]), list(fds)


def close_all(fds: Any) -> None:
    """Closes descriptors, whatever state they are in."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def check_packet(data: bytes, fds: List[int]) -> None:
    """Refuses a packet that no child could act on, with the reason."""
    request = json.loads(str(data, "utf-8"))
    if not isinstance(request, dict):
        raise ValueError("the packet is not a JSON object")
    if len(fds) != FDS_PER_PACKET:
        raise ValueError(f"the packet carries {len(fds)} descriptors instead of {FDS_PER_PACKET}")
    env = request.get("env", {})
    if not isinstance(env, dict) or any(not isinstance(value, str) or "\0" in name + value or "=" in name or not name
                                        for name, value in env.items()):
        raise ValueError("env is not a map of strings")
    memory = (request.get("limits") or {}).get("memory_bytes")
    if memory is not None and (not isinstance(memory, int) or isinstance(memory, bool) or memory <= 0):
        raise ValueError("limits.memory_bytes is not a positive number")
    if not isinstance(request.get("cwd", "/"), str):
        raise ValueError("cwd is not a string")


class Zygote:
    """The event loop around one listening socket.

    It is written for few writes to memory: after a fork every page that it touches, even by counting a reference, is
    copied once more.
    """

    def __init__(self, listener: socket.socket, idle_target: int) -> None:
        self.listener = listener
        self.idle_target = idle_target
        # By process.
        self.idle: Dict[int, socket.socket] = {}
        self.running: Dict[int, socket.socket] = {}
        # By descriptor; with the process that a connection has got.
        self.connections: Dict[int, socket.socket] = {}
        self.children: Dict[int, int] = {}
        self.poll = select.poll()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Its end is the executor's. Children find /dev/null in its place.
        self.stdin = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self.stopping = False
        # Another attempt's descriptors, while its packet is handled: a fork at that moment must not keep them.
        self.in_hand: List[int] = []
        self.fork_not_before = 0.0

    def serve(self) -> None:
        """Runs until stdin ends or SIGTERM arrives, then kills every child left."""
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        child.on_terminate(self._on_terminate)
        for fd in (self.stdin, self.wake_read, self.listener.fileno()):
            self.poll.register(fd, select.POLLIN)
        self._replenish()
        print("ready", flush=True)
        try:
            while not self.stopping:
                self._turn()
        finally:
            self._kill_children()

    def _turn(self) -> None:
        """Handles what is ready; forks for later only when nothing is, so that a fork delays no dispatch."""
        pause = None
        if len(self.idle) < self.idle_target:
            pause = max(0, int((self.fork_not_before - time.monotonic()) * 1000))
        ready = self.poll.poll(pause)
        for fd, _ in ready:
            if fd == self.wake_read:
                self._reap()
            elif fd in self.connections:
                self._on_packet(fd)
            elif fd == self.stdin:
                self._on_stdin()
            elif fd == self.listener.fileno():
                self._on_connect()
        if not ready and not self.stopping:
            self._replenish()

    def _on_terminate(self) -> None:
        self.stopping = True

    def _on_stdin(self) -> None:
        try:
            if not os.read(self.stdin, 4096):
                self.stopping = True
        except OSError:
            self.stopping = True

    def _reap(self) -> None:
        try:
            os.read(self.wake_read, 4096)
        except BlockingIOError:
            pass
        while self.idle or self.running:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid, status)

    def _reaped(self, pid: int, status: int) -> None:
        waiting = self.idle.pop(pid, None)
        if waiting is not None:
            waiting.close()
            return
        connection = self.running.pop(pid, None)
        if connection is None:
            return
        if os.WIFSIGNALED(status):
            answer(connection, b'{"signal": %d}' % os.WTERMSIG(status))
        else:
            answer(connection, b'{"exit": %d}' % os.WEXITSTATUS(status))
        self._forget(connection)

    def _on_connect(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        if len(self.connections) >= CONNECTIONS_MAX:
            answer(connection, refusal(f"over {CONNECTIONS_MAX} connections"))
            connection.close()
            return
        fd = connection.fileno()
        self.connections[fd] = connection
        self.poll.register(fd, select.POLLIN)
        # Whoever connects sends at once.
        self._on_packet(fd)

    def _on_packet(self, at: int) -> None:
        connection = self.connections[at]
        fds: List[int] = []
        try:
            data, fds = receive_packet(connection, socket.MSG_DONTWAIT)
            self.in_hand = fds
            if not data:
                self._on_hang_up(at)
                return
            if at in self.children:
                raise ValueError("this connection has its child already")
            check_packet(data, fds)
            self._dispatch(at, data, fds)
        except BlockingIOError:
            return
        except (ValueError, RecursionError, OSError) as error:
            answer(connection, refusal(str(error)))
            if at not in self.children:
                self._forget(connection)
        finally:
            close_all(fds)
            self.in_hand = []

    def _on_hang_up(self, at: int) -> None:
        """The executor left; its child, if any, goes on and is only reaped."""
        if at in self.children:
            self.poll.unregister(at)
        else:
            self._forget(self.connections[at])

    def _dispatch(self, at: int, data: bytes, fds: List[int]) -> None:
        while True:
            short = not self.idle
            if short:
                self._fork()
            pid, line = next(iter(self.idle.items()))
            del self.idle[pid]
            try:
                if len(data) > _PACKET_BYTES_USUAL:
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET_BYTES_MAX + 65536)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                line.sendmsg([data], rights)
            except (BrokenPipeError, ConnectionError):
                continue  # that child was killed while it waited; the next one is as good
            finally:
                line.close()
            self.running[pid] = self.connections[at]
            self.children[at] = pid
            answer(self.connections[at], b'{"pid": %d}' % pid)
            self.fork_not_before = time.monotonic() + REPLENISH_AFTER_S
            if short:
                self._replenish()  # there is no quiet moment to wait for
            return

    def _replenish(self) -> None:
        """Forks in a row: what the zygote touches between two forks, it has to copy after each."""
        while len(self.idle) < self.idle_target and not self.stopping:
            self._fork()

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = forking.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            # Out of processes or memory: try again soon instead of spinning.
            self.fork_not_before = time.monotonic() + 0.5
            raise OSError(f"cannot fork a child: {error}") from error
        if pid == 0:
            try:
                self._become_child(ours)
                child.wait_and_run(theirs, receive_packet)
            finally:
                os._exit(70)
        theirs.close()
        self.idle[pid] = ours

    def _become_child(self, line: socket.socket) -> None:
        """Leaves nothing of the zygote's open in the child."""
        os.setsid()
        kernel.die_with_parent()
        signal.set_wakeup_fd(-1)
        # What `signal.signal` calls, without the enumerations that it makes of numbers.
        _signal.signal(_SIGCHLD, _SIG_DFL)
        # By number: closing the objects would write to each of them.
        for fd in (self.listener.fileno(), self.wake_read, self.wake_write, self.stdin, line.fileno(),
                   *self.connections, *self.in_hand):
            os.close(fd)
        for other in self.idle.values():
            os.close(other.fileno())

    def _forget(self, connection: socket.socket) -> None:
        fd = connection.fileno()
        if self.connections.pop(fd, None) is not None:
            self.children.pop(fd, None)
            try:
                self.poll.unregister(fd)
            except KeyError:
                pass  # the executor hung up before
        connection.close()

    def _kill_children(self) -> None:
        for pid in [*self.idle, *self.running]:
            for kill in (os.killpg, os.kill):
                try:
                    kill(pid, signal.SIGKILL)
                except OSError:
                    pass


def _ignore(*_: Any) -> None:
    """A handler there must be, or no signal wakes the loop."""


def answer(connection: socket.socket, reply: bytes) -> None:
    """Tells the executor. One that left, or does not read, loses a few bytes."""
    try:
        connection.send(reply, socket.MSG_DONTWAIT)
    except OSError:
        pass


def refusal(why: str) -> bytes:
    """The answer to what cannot be acted on."""
    return json.dumps({"error": why}).encode()


def warm_up() -> None:
    """Does once what every child would have to, and moves it all out of the garbage collector's sight so that it stays shared."""
    for name in _OURS:
        importlib.import_module(name)
    # Neither those above nor what libraries have set.
    child.set_up(name for name in [*os.environ] if name not in _given)
    seeds.find()
    forking.settle()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        print(f"{threads - 1} threads run in the zygote; what they hold at a fork stays locked in the child",
              file=sys.stderr)
    rehearsal.run_often()
    packing.release()
    # Collecting lets go what the interpreter keeps for its next objects, which lies here and there as well.
    gc.collect()
    packing.fill()
    gc.freeze()


def listen(path: str) -> socket.socket:
    """Binds the socket, readable by nobody else from its first moment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.exists(path):
        os.unlink(path)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(256)
    listener.setblocking(False)
    return listener


def main(arguments: Optional[List[str]] = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="orrery_runner.zygote", description="Forks warm Python children.")
    parser.add_argument("--socket", required=True, help="path of the SOCK_SEQPACKET socket to listen on")
    parser.add_argument("--idle", type=int, default=2, help=f"children that wait already forked, at most {IDLE_MAX}")
    options = parser.parse_args(arguments)
    kernel.few_malloc_arenas()
    # Children inherit it; the zygote itself is small beside one that allocates without end.
    kernel.be_killed_first()
    # Not part of what warms: whoever else warms an interpreter so has forks of its own.
    child.leave_forks_alone()
    warm_up()
    kernel.use_huge_pages()
    listener = listen(options.socket)
    try:
        Zygote(listener, max(0, min(options.idle, IDLE_MAX))).serve()
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    try:
        os.unlink(options.socket)
    except OSError:
        pass
    sys.stderr.flush()
    os._exit(code)  # libraries have nothing to tidy up here, and some complain at length


if __name__ == "__main__":
    main()
