"""What the `mage_ai` interface asks about the job that runs now; empty outside a child."""
from __future__ import annotations

import os
from typing import Any, Dict, Optional

from orrery_runner.channel import Channel

_channel: Optional[Channel] = None
_job: Optional[Dict[str, Any]] = None
_triggered = 0


def begin(job: Dict[str, Any], channel: Channel) -> None:
    """A job starts; its child runs are counted from one again."""
    global _channel, _job, _triggered
    _channel, _job, _triggered = channel, job, 0


def clear() -> None:
    """The job ended."""
    global _channel, _job
    _channel = _job = None


def job() -> Dict[str, Any]:
    """The running job, or an empty map."""
    return _job or {}


def repo_path() -> str:
    """The project's folder."""
    return job().get("repo_path") or os.environ.get("MAGE_RUNTIME__REPO_PATH") or os.getcwd()


def call(method: str, arguments: Dict[str, Any]) -> Any:
    """Asks the executor."""
    if _channel is None:
        raise RuntimeError(f"{method} works only while the scheduler runs a block")
    return _channel.call(method, arguments)


def has_executor() -> bool:
    """Whether `call` can work."""
    return _channel is not None and _channel.is_open


def next_trigger_key() -> str:
    """The same for the n-th child run of every attempt of this block run, so that a retry finds it again."""
    global _triggered
    _triggered += 1
    return f"{job().get('block_run_id', '')}:{_triggered}"


