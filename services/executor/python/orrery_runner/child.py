"""A forked child: waits for its packet, becomes the attempt's process, and runs jobs until it is told to end.

It knows descriptors, limits and frames; what a job means is `attempt`'s business.
"""
from __future__ import annotations

import faulthandler
import io
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from orrery_runner import attempt, current, failures, jsontext, kernel, logs, order, rehearsal, seeds
from orrery_runner.channel import Channel, ChannelClosed

REHEARSE_AFTER_MS = 100
_RUNNER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Terminated(BaseException):
    """SIGTERM arrived: unwinds user code so that its `finally` blocks run within the executor's grace."""


_channel = Channel()
_environment: Dict[str, str] = {}
_terminate: Optional[Callable[[], None]] = None
_terminated_early = False
# Not `select.select`, which has three arrays for all descriptors that there could be on the stack.
_packets = select.poll()


def set_up(own_variables: Iterable[str]) -> None:
    """What is the same for every child, done once in the zygote: whatever a child does itself, it pays for with copies
    of the memory that it touches. `own_variables` are not meant for the user's processes."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, "rb", closefd=False))  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]
    faulthandler.enable(file=2)
    logs.install(_channel)
    failures.install_warnings()
    for name in own_variables:
        os.environ.pop(name, None)
    _environment.update(os.environ)
    sys.path[:] = list(dict.fromkeys([_RUNNER, *sys.path]))
    signal.signal(signal.SIGTERM, _on_sigterm)


def on_terminate(act: Callable[[], None]) -> None:
    """What SIGTERM does in the zygote itself."""
    global _terminate
    _terminate = act


def _on_sigterm(*_: Any) -> None:
    global _terminated_early
    if _terminate is None:
        raise Terminated
    _terminated_early = True
    _terminate()


def leave_forks_alone() -> None:
    """What user code forks inherits the handler, and not what it is for. SIGTERM waits meanwhile, since Python forgets in the
    child what came before it was ready. Asked for once, in the zygote, of whose own forks none of that is true."""
    def before() -> None:
        if _terminate is None:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def after() -> None:
        if _terminate is None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))

    def in_child() -> None:
        if _terminate is None and signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)
    _channel.leave_forks_alone()


def wait_and_run(line: socket.socket, receive: Callable[[socket.socket], Tuple[bytes, List[int]]]) -> None:
    """The whole life of a child. Never returns."""
    global _terminate
    code = 70
    try:
        _terminate = None
        if _terminated_early:
            raise Terminated
        seeds.renew()
        try:
            # Under load the packet is here at once, and work done ahead would only cost throughput.
            _packets.register(line, select.POLLIN)
            if not _packets.poll(REHEARSE_AFTER_MS):
                rehearsal.run()
            data, fds = receive(line)
        except (OSError, ValueError):
            os._exit(0)
        if not data:
            os._exit(0)  # the zygote is gone
        os.close(line.detach())
        code = serve(data, fds)
    except Terminated:
        die_by_sigterm()
    except BaseException as error:  # nothing may escape into the zygote's stack
        print(f"the runner failed: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        flush()
        os._exit(code)


def serve(packet: bytes, fds: List[int]) -> int:
    """Becomes what the packet says and runs jobs; the exit code."""
    bind_output(fds[0], fds[1])
    _channel.attach(fds[2])
    return run_jobs(_channel, prepare(jsontext.parse(str(packet, "utf-8"))))


def forget(environment: Dict[str, str]) -> None:
    """After `serve` in a process that is still to become another: as if it never had."""
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.buffer.raw.release()  # type: ignore[union-attr]
    _channel.detach()
    current.clear()
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]


def bind_output(stdout: int, stderr: int) -> None:
    """Puts the given descriptors below the streams, which hold nothing yet."""
    for given, fixed in ((stdout, 1), (stderr, 2)):
        os.dup2(given, fixed, inheritable=True)
        if given != fixed:
            os.close(given)
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.buffer.raw.bind()  # type: ignore[union-attr]


def _stream(fd: int) -> io.TextIOWrapper:
    raw = order.Stream(fd, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw, 65536), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def flush() -> None:
    """Both streams, however user code left them."""
    for stream in {id(stream): stream for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}.values():
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def prepare(request: Dict[str, Any]) -> Optional[kernel.MemoryLimit]:
    """Environment, folder, name and limits, in the order in which each may fail."""
    env = request.get("env")
    if env is not None:
        set_environment(env)
    if request.get("cwd"):
        os.chdir(request["cwd"])
    search = (env or {}).get("PYTHONPATH")
    if search:
        set_base_path(search)
    if request.get("name"):
        kernel.set_name(str(request["name"]))
    headroom = (request.get("limits") or {}).get("memory_bytes")
    return kernel.MemoryLimit(headroom) if headroom else None


def set_environment(env: Dict[str, str]) -> None:
    """Makes it the whole environment. Most of it is usually there already."""
    for name in _environment:
        if name not in env:
            del os.environ[name]
    for name, value in env.items():
        if _environment.get(name) != value:
            os.environ[name] = value
    if _environment.get("TZ") != env.get("TZ"):
        time.tzset()


def set_base_path(search: str) -> None:
    """The runner's own folder first, then the folders that the job's environment names; not the zygote's folder."""
    wanted = [_RUNNER, *filter(None, search.split(os.pathsep))]
    sys.path[:] = list(dict.fromkeys(wanted + sys.path))


def die_by_sigterm() -> None:
    """Ends as the signal would have ended it, so that the zygote reports it so."""
    flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def run_jobs(channel: Channel, memory: Optional[kernel.MemoryLimit]) -> int:
    """Job after job until `end`, or until one that is the last; the exit code."""
    process = attempt.Process(memory)
    while True:
        frame = channel.receive()
        if frame is None or frame.get("type") == "end":
            return 0
        if frame.get("type") != "job" or not isinstance(frame.get("job"), dict):
            print(f"the runner ignored a control frame of type {frame.get('type')!r}", file=sys.stderr)
            continue
        logs.set_level(frame["job"].get("log_level"))
        result = process.run(frame["job"], channel)
        flush()
        try:
            channel.send({"type": "result", "result": result})
        except ChannelClosed:
            return 1
        if frame.get("last"):
            return 0
        logs.restore(channel)
        current.clear()
