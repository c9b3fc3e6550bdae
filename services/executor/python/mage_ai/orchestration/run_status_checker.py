"""Whether another pipeline, or a block of it, has completed: what sensors ask."""
from __future__ import annotations

import datetime
from typing import Any, Optional, Union

from orrery_runner import current, variables


def check_status(pipeline_uuid: str, execution_date: Union[datetime.date, str], repo_path: Optional[str] = None,
                 block_uuid: Optional[str] = None, hours: float = 24, **_options: Any) -> bool:
    """True once the latest run of the last `hours` before the date has completed; raises if it failed.

    A date without an offset is in UTC, and one without a time is its midnight.
    """
    del repo_path
    is_date = isinstance(execution_date, datetime.date)
    moment = variables.parse_time(execution_date.isoformat() if is_date else str(execution_date))
    answer = current.call("check_status", {"pipeline_uuid": pipeline_uuid, "block_uuid": block_uuid, "hours": hours,
                                           "execution_date": moment.isoformat() if moment else None})
    status = (answer or {}).get("status")
    if status in ("failed", "cancelled"):
        what = f"block {block_uuid} of pipeline {pipeline_uuid}" if block_uuid else f"pipeline {pipeline_uuid}"
        raise RuntimeError(f"{what} ended as {status}")
    return status == "completed"
