"""A forked child: waits for its packet, becomes the attempt's process, and runs jobs until it is told to end.

It knows descriptors, limits and frames; what a job means is `attempt`'s business.
"""
from __future__ import annotations

import faulthandler
import io
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from orrery_runner import kernel, logs, rehearsal
from orrery_runner.channel import Channel, ChannelClosed

REHEARSE_AFTER_S = 0.1


class Terminated(BaseException):
    """SIGTERM arrived: unwinds user code so that its `finally` blocks run within the executor's grace."""


def wait_and_run(line: socket.socket, receive: Callable[[socket.socket], Tuple[bytes, List[int]]]) -> None:
    """The whole life of a child. Never returns."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # or every attempt would draw the zygote's numbers
    try:
        # Under load the packet is here at once, and work done ahead would only cost throughput.
        if not select.select([line], [], [], REHEARSE_AFTER_S)[0]:
            rehearsal.run()
        data, fds = receive(line)
    except (OSError, ValueError):
        os._exit(0)
    if not data:
        os._exit(0)  # the zygote is gone
    line.close()
    code = 70
    try:
        request = json.loads(data)
        bind_output(fds[0], fds[1])
        channel = Channel(socket.socket(fileno=fds[2]))
        memory = prepare(request)
        code = run_jobs(channel, memory)
    except Terminated:
        die_by_sigterm()
    except BaseException as error:  # nothing may escape into the zygote's stack
        print(f"the runner failed: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        flush()
        os._exit(code)


def bind_output(stdout: int, stderr: int) -> None:
    """Puts fresh streams on the given descriptors, so that nothing buffered before the fork is printed again."""
    for given, fixed in ((stdout, 1), (stderr, 2)):
        os.dup2(given, fixed, inheritable=True)
        if given != fixed:
            os.close(given)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, "rb", closefd=False))  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]
    faulthandler.enable(file=sys.stderr)


def _stream(fd: int) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw, 65536), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def flush() -> None:
    """Both streams, however user code left them."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def prepare(request: Dict[str, Any]) -> Optional[kernel.MemoryLimit]:
    """Environment, folder, name, signals and limits, in the order in which each may fail."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    env = request.get("env")
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
    if request.get("cwd"):
        os.chdir(request["cwd"])
    set_base_path(os.environ.get("PYTHONPATH", ""))
    if request.get("name"):
        kernel.set_name(str(request["name"]))
    headroom = (request.get("limits") or {}).get("memory_bytes")
    return kernel.MemoryLimit(headroom) if headroom else None


def set_base_path(search: str) -> None:
    """The runner's own folder first, then the folders that the job's environment names; not the zygote's folder."""
    runner = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    wanted = [runner, *filter(None, search.split(os.pathsep))]
    sys.path[:] = list(dict.fromkeys(wanted + sys.path))


def _on_sigterm(*_: Any) -> None:
    raise Terminated


def die_by_sigterm() -> None:
    """Ends as the signal would have ended it, so that the zygote reports it so."""
    flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def run_jobs(channel: Channel, memory: Optional[kernel.MemoryLimit]) -> int:
    """Job after job until `end`; the exit code."""
    from orrery_runner import attempt, current

    logs.install(channel)
    process = attempt.Process(memory)
    while True:
        frame = channel.receive()
        if frame is None or frame.get("type") == "end":
            return 0
        if frame.get("type") != "job" or not isinstance(frame.get("job"), dict):
            print(f"the runner ignored a control frame of type {frame.get('type')!r}", file=sys.stderr)
            continue
        result = process.run(frame["job"], channel)
        flush()
        logs.restore(channel)
        try:
            channel.send({"type": "result", "result": result})
        except ChannelClosed:
            return 1
        finally:
            current.clear()
