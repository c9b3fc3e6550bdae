"""What a cluster holds, as objects that know how to ask for more. Each is as it was when it was read; `refresh` reads again."""
from __future__ import annotations

import datetime
import json
import re
import time
import uuid
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from orrery import errors, outputs
from orrery.transport import Transport

_PAGE_SIZE = 500
# Between two looks at a run.
_PAUSE_MIN_S = 0.05
_PAUSE_MAX_S = 1.0
_ENDED = frozenset(("completed", "failed", "cancelled"))


def new_key() -> str:
    """A key for one act, so that a repeated request does not act twice."""
    return uuid.uuid4().hex


def pages(transport: Transport, method: str, field: str, message: Dict[str, Any],
          limit: Optional[int] = None) -> Iterator[Dict[str, Any]]:
    """Every row of a list, page by page."""
    token, seen = "", 0
    while True:
        size = _PAGE_SIZE if limit is None else min(_PAGE_SIZE, limit - seen)
        if size <= 0:
            return
        page = transport.call(method, {**message, "pageSize": size, "pageToken": token})
        rows = page.get(field) or []
        yield from rows
        seen += len(rows)
        token = page.get("nextPageToken") or ""
        if not token:
            return


def _instant(text: Optional[str]) -> Optional[datetime.datetime]:
    if not text:
        return None
    text = re.sub(r"[zZ]$", "+00:00", text)
    # Python 3.9 reads only three or six digits of a fraction.
    text = re.sub(r"\.(\d+)", lambda found: "." + found.group(1)[:6].ljust(6, "0"), text)
    return datetime.datetime.fromisoformat(text)


def _word(value: Optional[str], prefix: str) -> str:
    text = value or ""
    return (text[len(prefix):] if text.startswith(prefix) else text).lower()


class _Row:
    """A document of the API, and the way to ask for more."""

    def __init__(self, transport: Transport, document: Dict[str, Any]) -> None:
        self._transport = transport
        self.document = document

    def _text(self, name: str) -> str:
        return str(self.document.get(name) or "")

    def _number(self, name: str) -> int:
        return int(self.document.get(name) or 0)

    def _at(self, name: str) -> Optional[datetime.datetime]:
        return _instant(self.document.get(name))


class Workspace(_Row):
    """A named, shareable environment."""

    @property
    def name(self) -> str:
        """Unique in the cluster."""
        return self._text("name")

    @property
    def created_at(self) -> Optional[datetime.datetime]:
        """When it was made."""
        return self._at("createdAt")

    def pipeline(self, name: str) -> "Pipeline":
        """One pipeline, with its blocks."""
        answer = self._transport.call("PipelineService/GetPipeline", {"workspace": self.name, "pipeline": name})
        return Pipeline(self._transport, answer["pipeline"])

    def list_pipelines(self) -> List["Pipeline"]:
        """All pipelines, without their blocks."""
        message = {"workspace": self.name}
        return [Pipeline(self._transport, row)
                for row in pages(self._transport, "PipelineService/ListPipelines", "pipelines", message)]

    def list_runs(self, pipeline: str = "", statuses: Tuple[str, ...] = (), limit: int = 100) -> List["Run"]:
        """The newest runs, newest first."""
        message = {"workspace": self.name, "pipeline": pipeline,
                   "statuses": [f"RUN_STATUS_{status.upper()}" for status in statuses]}
        return [Run(self._transport, row)
                for row in pages(self._transport, "RunService/ListRuns", "runs", message, limit)]

    def clean_outputs(self, before: Optional[datetime.datetime] = None, pipeline: str = "",
                      dry_run: bool = False) -> Dict[str, int]:
        """Removes outputs of ended runs; answers the number of runs for each pipeline. See `orrery clean`."""
        message: Dict[str, Any] = {"workspace": self.name, "pipeline": pipeline, "dryRun": dry_run}
        if before is not None:
            message["before"] = _aware(before).isoformat()
        answer = self._transport.call("OutputService/CleanOutputs", message)
        return {row["pipeline"]: int(row["runs"]) for row in answer.get("pipelines") or []}


class Pipeline(_Row):
    """A DAG of blocks, in the version in force when it was read."""

    @property
    def name(self) -> str:
        """Unique in its workspace."""
        return self._text("name")

    @property
    def workspace(self) -> str:
        """The name of its workspace."""
        return self._text("workspace")

    @property
    def version(self) -> int:
        """Rises with every deployment that changes it."""
        return self._number("version")

    @property
    def variables(self) -> Dict[str, Any]:
        """What it defines for its runs."""
        return dict(self.document.get("variables") or {})

    @property
    def blocks(self) -> List[str]:
        """Their names."""
        return [block["uuid"] for block in self.document.get("blocks") or []]

    def run(self, variables: Optional[Dict[str, Any]] = None, execution_date: Optional[datetime.datetime] = None,
            idempotency_key: Optional[str] = None, timeout: Optional[float] = None) -> "Run":
        """Starts a run. A second request with the same key gets the first one's run; `timeout` is in seconds."""
        message: Dict[str, Any] = {"workspace": self.workspace, "pipeline": self.name, "variables": variables or {},
                                   "idempotencyKey": idempotency_key or new_key()}
        if execution_date is not None:
            message["executionDate"] = _aware(execution_date).isoformat()
        if timeout is not None:
            message["timeout"] = f"{timeout:.3f}s"
        return Run(self._transport, self._transport.call("RunService/CreateRun", message)["run"])

    def list_runs(self, statuses: Tuple[str, ...] = (), limit: int = 100) -> List["Run"]:
        """Its newest runs, newest first."""
        return Workspace(self._transport, {"name": self.workspace}).list_runs(self.name, statuses, limit)


class Run(_Row):
    """One execution of a pipeline."""

    @property
    def id(self) -> str:
        """A UUID."""
        return self._text("id")

    @property
    def pipeline(self) -> str:
        """The name of its pipeline."""
        return self._text("pipeline")

    @property
    def workspace(self) -> str:
        """The name of its workspace."""
        return self._text("workspace")

    @property
    def status(self) -> str:
        """`initial`, `running`, `completed`, `failed` or `cancelled`."""
        return _word(self.document.get("status"), "RUN_STATUS_")

    @property
    def reason(self) -> str:
        """Why it failed or was cancelled."""
        return self._text("reason")

    @property
    def variables(self) -> Dict[str, Any]:
        """What it was started with."""
        return dict(self.document.get("variables") or {})

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it changes any more."""
        return self.status in _ENDED

    @property
    def created_at(self) -> Optional[datetime.datetime]:
        """When it was asked for."""
        return self._at("createdAt")

    @property
    def completed_at(self) -> Optional[datetime.datetime]:
        """When it ended."""
        return self._at("completedAt")

    def refresh(self) -> "Run":
        """Reads it again."""
        self.document = self._transport.call("RunService/GetRun", {"runId": self.id})["run"]
        return self

    def wait(self, timeout: Optional[float] = None, check: bool = True) -> "Run":
        """Waits for its end, at most `timeout` seconds. With `check`, one that did not complete is a `RunFailed`."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = _PAUSE_MIN_S
        while not self.refresh().has_ended:
            if end is not None and time.monotonic() >= end:
                raise errors.WaitTimeout(f"run {self.id} is still {self.status} after {timeout} s; it goes on", "timeout")
            time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))
            pause = min(_PAUSE_MAX_S, pause * 1.5)
        if check and self.status != "completed":
            raise errors.RunFailed(f"run {self.id} {self.status}: {self.reason or 'no reason was given'}", self.status)
        return self

    def cancel(self, reason: str = "cancelled by the Python client") -> "Run":
        """Asks it to stop; cancelling twice is no error."""
        self.document = self._transport.call("RunService/CancelRun", {"runId": self.id, "reason": reason})["run"]
        return self

    def retry(self, from_block: str = "", incomplete: bool = False) -> "Run":
        """Runs it again: whole, as a new run; or in the same run from a block, or what did not complete."""
        mode = "FROM_BLOCK" if from_block else "INCOMPLETE" if incomplete else "WHOLE"
        message = {"runId": self.id, "mode": f"RETRY_MODE_{mode}", "fromBlock": from_block, "idempotencyKey": new_key()}
        return Run(self._transport, self._transport.call("RunService/RetryRun", message)["run"])

    def blocks(self, children: bool = False) -> List["BlockRun"]:
        """Its blocks in pipeline order; with the children of dynamic blocks, if wanted."""
        message = {"runId": self.id, "withoutChildren": not children}
        return [BlockRun(self._transport, row)
                for row in pages(self._transport, "RunService/ListBlockRuns", "blockRuns", message)]

    def logs(self, block: str = "", min_level: str = "", text: str = "", follow: bool = False) -> Iterator["LogLine"]:
        """What it wrote, oldest first; with `follow`, also what comes until its end."""
        message = {"runId": self.id, "block": block, "minLevel": min_level}
        if not follow:
            rows = pages(self._transport, "LogService/ListLogs", "lines", {**message, "text": text})
            for row in rows:
                yield LogLine(self._transport, row)
            return
        for part in self._transport.stream("LogService/TailLogs", message):
            for row in part.get("lines") or []:
                if text.lower() in str(row.get("message") or "").lower():
                    yield LogLine(self._transport, row)

    def outputs(self, block: str, child: Optional[int] = None) -> List["OutputPreview"]:
        """A look at everything that a block, or one of its children, left."""
        return self._outputs(block, child, "")

    def output(self, block: str, name: str = "output_0", child: Optional[int] = None) -> "OutputPreview":
        """A look at one output."""
        return self._outputs(block, child, name)[0]

    def get_variable(self, block: str, name: str = "output_0", child: Optional[int] = None) -> Any:
        """The whole value of an output: what JSON has, or for a table a pandas object where pandas and pyarrow are installed
        and its rows otherwise.

        Fetches what was not noted whole, which takes the role of an editor. `Incomplete` for a large table without pandas,
        and for Python objects; `save_output` has their files.
        """
        look = self.output(block, name, child)
        is_table = bool(look.columns) and outputs.can_read_tables()
        if look.is_complete and not is_table:
            return look.value()
        if look.document.get("absent"):
            # Says why.
            return look.value()
        try:
            return outputs.value(self._transport, self.id, block, name, child)
        except errors.Denied:
            if not look.is_complete:
                raise
            return look.value()

    def save_output(self, block: str, folder: str, name: str = "output_0", child: Optional[int] = None) -> List[str]:
        """Writes the files of an output below a folder, as they were stored; answers their paths. Takes the role of an editor."""
        return outputs.save(self._transport, self.id, block, name, child, folder)

    def get_variables(self, block: str, child: Optional[int] = None) -> Dict[str, Any]:
        """The values of all outputs of a block, by their names."""
        return {look.name: self.get_variable(block, look.name, child) for look in self.outputs(block, child)}

    def _outputs(self, block: str, child: Optional[int], name: str) -> List["OutputPreview"]:
        message: Dict[str, Any] = {"runId": self.id, "block": block, "name": name}
        if child is not None:
            message["child"] = child
        answer = self._transport.call("OutputService/GetOutputs", message)
        gone = answer.get("expiredAt")
        absent = f"it is gone since {gone}" if gone else str(answer.get("unavailable") or "")
        return [OutputPreview(self._transport, {**row, "absent": absent}) for row in answer.get("outputs") or []]


class BlockRun(_Row):
    """One execution of a block, of a dynamic child or of a callback."""

    @property
    def name(self) -> str:
        """The block's uuid; `<callback>:<watched block>` for a callback."""
        return self._text("block")

    @property
    def child(self) -> Optional[int]:
        """The number of a dynamic child."""
        child = int(self.document.get("child", -1))
        return None if child < 0 else child

    @property
    def status(self) -> str:
        """`initial`, `queued`, `running`, `completed`, `failed`, `cancelled`, `upstream_failed` or `condition_failed`."""
        return _word(self.document.get("status"), "BLOCK_RUN_STATUS_")

    @property
    def attempts(self) -> int:
        """Tries so far."""
        return self._number("attempts")

    @property
    def error(self) -> Optional[Dict[str, str]]:
        """`code`, `message` and `traceback` of what failed it."""
        error = self.document.get("error")
        return dict(error) if error else None


class LogLine(_Row):
    """One line."""

    @property
    def at(self) -> Optional[datetime.datetime]:
        """When it was written."""
        return self._at("at")

    @property
    def level(self) -> str:
        """`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`."""
        return self._text("level")

    @property
    def block(self) -> str:
        """Who wrote it; empty for lines of the run itself."""
        return self._text("block")

    @property
    def message(self) -> str:
        """The line."""
        return self._text("message")


class OutputPreview(_Row):
    """What was noted of an output when it was written."""

    @property
    def name(self) -> str:
        """`output_0`, …"""
        return self._text("name")

    @property
    def kind(self) -> str:
        """Mage's variable type: `dataframe`, `json`, …"""
        return self._text("kind")

    @property
    def row_count(self) -> Optional[int]:
        """All of its rows, or none for what has no rows."""
        count = int(self.document.get("rows") or 0)
        return None if count < 0 else count

    @property
    def size_bytes(self) -> int:
        """On disk."""
        return self._number("sizeBytes")

    @property
    def columns(self) -> List[Tuple[str, str]]:
        """Name and type of each column of a table."""
        return [(column.get("name") or "", column.get("type") or "") for column in self.document.get("columns") or []]

    @property
    def is_complete(self) -> bool:
        """Whether all of it was noted."""
        return bool(self.document.get("complete"))

    def rows(self) -> List[Dict[str, Any]]:
        """The first rows of a table; names that occur twice have `.1`, `.2`, … behind them."""
        seen: Dict[str, int] = {}
        names = []
        for name, _ in self.columns:
            seen[name] = seen.get(name, -1) + 1
            names.append(f"{name}.{seen[name]}" if seen[name] else name)
        whole = ["int" in kind.lower() for _, kind in self.columns]
        return [{name: _whole(cell) if is_whole else cell for name, cell, is_whole in zip(names, row, whole)}
                for row in self.document.get("sample") or []]

    def value(self) -> Union[List[Any], Dict[str, Any], Any]:
        """All of it: rows of a table, or the value as JSON has it."""
        if not self.is_complete:
            why = self.document.get("absent") or "only a part of it was noted when it was written; `Run.get_variable` fetches all of it"
            raise errors.Incomplete(f"the value of {self.name} cannot be had: {why}", "incomplete")
        if self.columns:
            return self.rows()
        if self.document.get("text"):
            return json.loads(self.document["text"])
        return list(self.document.get("sample") or [])


def _whole(cell: Any) -> Any:
    """The API's JSON has one kind of number."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _aware(instant: datetime.datetime) -> datetime.datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=datetime.timezone.utc)
