"""Whether another pipeline, or a block of it, has completed: what sensors ask."""
from __future__ import annotations

import datetime
from typing import Any, Optional, Union

from orrery_runner import current


def check_status(pipeline_uuid: str, execution_date: Union[datetime.datetime, str], repo_path: Optional[str] = None,
                 block_uuid: Optional[str] = None, hours: float = 24, **_options: Any) -> bool:
    """True once the latest run of the last `hours` before the date has completed; raises if it failed."""
    del repo_path
    text = execution_date.isoformat() if isinstance(execution_date, datetime.datetime) else str(execution_date)
    answer = current.call("check_status", {"pipeline_uuid": pipeline_uuid, "execution_date": text,
                                           "block_uuid": block_uuid, "hours": hours})
    status = (answer or {}).get("status")
    if status in ("failed", "cancelled"):
        what = f"block {block_uuid} of pipeline {pipeline_uuid}" if block_uuid else f"pipeline {pipeline_uuid}"
        raise RuntimeError(f"{what} ended as {status}")
    return status == "completed"
