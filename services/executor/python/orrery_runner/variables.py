"""The keyword arguments that every block gets: the run's variables under the computed ones."""
from __future__ import annotations

import datetime
import re
from typing import Any, Dict, Optional

from orrery_runner.logs import BlockLogger

_INTERVAL_KEYS = ("interval_start_datetime", "interval_end_datetime", "interval_start_datetime_previous")


def parse_time(text: Optional[str]) -> Optional[datetime.datetime]:
    """An RFC 3339 instant as an aware datetime; one without an offset is UTC."""
    if not text:
        return None
    # As the scheduler writes it: by far the most common, and cheap.
    if isinstance(text, str) and text[-1:] == "Z" and len(text) in (20, 27) and text[10] == "T":
        return datetime.datetime.fromisoformat(text[:-1]).replace(tzinfo=datetime.timezone.utc)
    text = re.sub(r"\[.*\]$", "", str(text).strip())
    text = re.sub(r"[zZ]$", "+00:00", text)
    # Python 3.9 reads only three or six digits of a fraction.
    text = re.sub(r"\.(\d+)", lambda found: "." + found.group(1)[:6].ljust(6, "0"), text)
    text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text)
    value = datetime.datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)


def utc(value: datetime.datetime) -> datetime.datetime:
    """The same instant in UTC."""
    return value if value.tzinfo is datetime.timezone.utc else value.astimezone(datetime.timezone.utc)


def build(job: Dict[str, Any], context: Dict[str, Any]) -> Dict[str, Any]:
    """The map for this job's block."""
    kwargs: Dict[str, Any] = dict(job.get("variables") or {})
    block = job["block"]
    execution_date = parse_time(job.get("execution_date")) or datetime.datetime.now(datetime.timezone.utc)
    execution_date = utc(execution_date)
    for key in _INTERVAL_KEYS:
        if isinstance(kwargs.get(key), str):
            parsed = parse_time(kwargs[key])
            kwargs[key] = utc(parsed) if parsed else None
    event = dict(kwargs["event"]) if isinstance(kwargs.get("event"), dict) else {}
    event.update(job.get("event") or {})
    kwargs.update(
        env="prod",
        execution_date=execution_date,
        ds=execution_date.date().isoformat(),
        hr=f"{execution_date.hour:02}",
        execution_partition=job.get("execution_partition"),
        event=event,
        trigger_name=job.get("trigger_name"),
        configuration=dict(block.get("configuration") or {}),
        context=context,
        pipeline_uuid=job.get("pipeline_uuid"),
        block_uuid=block["uuid"],
        repo_path=job["repo_path"],
        logger=BlockLogger(block["uuid"]),
        retry={"attempts": job.get("attempt_number") or 1},
        pipeline_run_id=job.get("run_id"),
    )
    if job.get("dynamic_block_index") is not None:
        kwargs["dynamic_block_index"] = job["dynamic_block_index"]
    # A key of the event never hides what is there already.
    for key, value in event.items():
        kwargs.setdefault(str(key), value)
    return kwargs
