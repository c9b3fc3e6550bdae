"""One job, from its JSON to its RESULT: conditions, inputs, the block itself, outputs and tests, in that order."""
from __future__ import annotations

import logging
import os
from typing import Any, Dict, List, Optional

from orrery_runner import (
    arguments, blockfile, callbacks, current, dynamic, failures, inputs, outputs, remote_blocks, variables)
from orrery_runner.channel import Channel
from orrery_runner.kernel import MemoryLimit

_INERT_KINDS = frozenset(("markdown", "chart", "scratchpad"))
_log = logging.getLogger("orrery")


class NotYet(Exception):
    """A sensor returned something false."""


class ConditionFailed(Exception):
    """A guard said no."""


class Process:
    """What jobs of one process share: the `context` dict, the memory limit, and the import path."""

    def __init__(self, memory: Optional[MemoryLimit]) -> None:
        self._memory = memory
        self._context: Dict[str, Any] = {}

    def run(self, job: Dict[str, Any], channel: Channel) -> Dict[str, Any]:
        """Runs the job; every ending but the process's own is a RESULT."""
        from orrery_runner.child import Terminated

        current.begin(job, channel)
        try:
            # The process was given it, unless it is for another project.
            if os.environ.get("MAGE_RUNTIME__REPO_PATH") != job["repo_path"]:
                os.environ["MAGE_RUNTIME__REPO_PATH"] = job["repo_path"]
            blockfile.set_import_path(job["repo_path"], job.get("project_name") or "")
            return self._run(job, channel)
        except Terminated:
            raise
        except ConditionFailed:
            return {"outcome": "condition_failed"}
        except NotYet:
            return {"outcome": "not_yet"}
        except SystemExit as error:
            if error.code in (None, 0, False):
                return _completed([])
            return failures.result_of(error)
        except BaseException as error:
            if self._memory is not None and failures.is_out_of_memory(error):
                self._memory.release_reserve()
            return failures.result_of(error, self._memory and self._memory.headroom_bytes)

    def _run(self, job: Dict[str, Any], channel: Channel) -> Dict[str, Any]:
        block = job["block"]
        if block["kind"] in _INERT_KINDS or block.get("language") == "markdown":
            channel.send({"type": "started"})
            return _completed([])
        kwargs = variables.build(job, self._context)
        found = inputs.load(job)
        kwargs.update(found.metadata)
        remote_blocks.fill(job, found, kwargs)
        channel.send({"type": "started"})
        if job.get("mode") == "callback":
            callbacks.run(job, found, kwargs)
            return _completed([])
        check_conditions(job, found, kwargs)
        return Execution(job, found, kwargs).run()


def check_conditions(job: Dict[str, Any], found: inputs.Inputs, kwargs: Dict[str, Any]) -> None:
    """Raises unless every function of every guard says yes. A guard that fails says no; as in Mage, one without a function
    for it says yes."""
    for guard in job.get("conditions") or []:
        own = callbacks.addon_kwargs(job, guard, job["block"], kwargs)
        try:
            file = blockfile.load(guard, job["repo_path"], found.names())
            functions = file.of("condition")
            if not functions:
                _log.warning("condition %s lets block %s run: no function in %s is decorated with @condition",
                             guard["uuid"], job["block"]["uuid"], file.path)
            for entry in functions:
                if not arguments.call(
                        entry.function, arguments.Shape(entry.function).accepted(found.values), own):
                    _log.info("condition %s is false", guard["uuid"])
                    raise ConditionFailed
        except ConditionFailed:
            raise
        except Exception as error:
            if failures.is_out_of_memory(error):
                raise
            _log.error("condition %s counts as false, since it failed: %s\n%s", guard["uuid"],
                       failures.message_of(error), failures.format_traceback(error))
            raise ConditionFailed from error


def _completed(entries: List[Dict[str, Any]], items: Optional[int] = None,
               names: Optional[List[str]] = None) -> Dict[str, Any]:
    return {"outcome": "completed", "outputs": entries, "items": items, "item_names": names}


class Execution:
    """The block itself: its function or statements, its outputs and its tests."""

    def __init__(self, job: Dict[str, Any], found: inputs.Inputs, kwargs: Dict[str, Any]) -> None:
        self._job = job
        self._block = job["block"]
        self._inputs = found
        self._kwargs = kwargs

    def run(self) -> Dict[str, Any]:
        """The RESULT of a block that did not raise."""
        language = self._block.get("language") or "python"
        if self._block["kind"] == "dbt":
            from orrery_runner import dbt

            return self._finish(dbt.run(self._job, self._inputs, self._kwargs))
        if self._block["kind"] == "global_data_product":
            from orrery_runner import data_product

            return self._finish(data_product.run(self._job, self._kwargs))
        if language == "sql":
            from orrery_runner import sql

            return self._finish(sql.run(self._job, self._inputs, self._kwargs))
        if language == "r":
            from orrery_runner import rscript

            return self._finish(rscript.run(self._job, self._inputs, self._kwargs))
        if language != "python":
            raise failures.BlockError(
                f"block {self._block['uuid']}: blocks of language {language} and kind {self._block['kind']} run only "
                "in streaming and integration pipelines")
        return self._run_python()

    def _run_python(self) -> Dict[str, Any]:
        file = blockfile.load(self._block, self._job["repo_path"], self._inputs.names())
        function = file.first().function
        values = self._inputs.values
        if self._block["kind"] == "sensor":
            self._preprocess(file, values)
            if not arguments.call_sensor(function, values, self._kwargs):
                raise NotYet
            self._test(file.of("test"), lambda: [])
            return _completed([])
        arguments.check_count(self._block, function, len(values))
        self._preprocess(file, values)
        returned = arguments.call(function, values, self._kwargs)
        return self._finish(returned, file)

    def _preprocess(self, file: blockfile.BlockFile, values: List[Any]) -> None:
        for entry in file.of("preprocesser"):
            arguments.call(entry.function, values, self._kwargs)

    def _finish(self, returned: Any, file: Optional[blockfile.BlockFile] = None) -> Dict[str, Any]:
        """Stores what was returned, counts items, and only then tests, as people rely on outputs of failed tests."""
        is_dynamic = bool(self._block.get("dynamic"))
        tests = file.of("test") if file else []
        if outputs.is_generator(returned) and not is_dynamic and not self._job.get("keep_in_memory"):
            entries = self._writer().write_parts(outputs.Parts(returned))
            self._test(tests, lambda: outputs.read(self._job["output_dir"]))
            return _completed(entries)
        values = self._collect(returned)
        items, names = dynamic.describe(self._block, values) if is_dynamic else (None, None)
        if self._job.get("keep_in_memory"):
            entries = outputs.keep(self._job["output_dir"], values)
        else:
            entries = self._writer().write(values) if values else []
        if tests:
            self._test(tests, lambda: values)
        return _completed(entries, items, names)

    def _writer(self) -> outputs.Writer:
        return outputs.Writer(
            self._job["output_dir"], self._block["uuid"], has_items=bool(self._block.get("dynamic")))

    def _collect(self, returned: Any) -> List[Any]:
        """The list of outputs; a dynamic generator yields its items, each perhaps with its metadata."""
        if not outputs.is_generator(returned):
            return outputs.split(returned)
        parts = list(returned)
        if not self._block.get("dynamic"):
            return [outputs.concatenate(list(outputs.Parts(iter(parts))))] if parts else []
        if any(outputs.is_with_metadata(part) for part in parts):
            pairs = [part if outputs.is_with_metadata(part) else (part, {}) for part in parts]
            return [[data for data, _ in pairs], [metadata for _, metadata in pairs]]
        return [parts]

    def _test(self, tests: List[Any], values: Any) -> None:
        """Runs every test, so that the log shows all failures and not only the first."""
        if not tests:
            return
        arguments_of_tests = values()
        failed: List[str] = []
        first: Optional[Exception] = None
        for entry in tests:
            name = getattr(entry.function, "__name__", "test")
            try:
                arguments.call(entry.function, arguments_of_tests, self._kwargs)
            except Exception as error:
                if failures.is_out_of_memory(error):
                    raise
                first = first or error
                failed.append(f"{name}: {failures.message_of(error)}")
                _log.error("test %s failed: %s\n%s", name, failures.message_of(error),
                           failures.format_traceback(error))
        _log.info("%d/%d tests passed", len(tests) - len(failed), len(tests))
        if failed:
            raise failures.TestsFailed(
                f"{len(failed)} of {len(tests)} tests failed: " + "; ".join(failed)) from first


