"""Runs a pipeline's functions the way a person would in a notebook: in order, in one process, results passed by hand.

It shares no code with the runner: what it finds can disagree with what a cluster made. From the `mage_ai` interface it
takes only what the project's files import for themselves (`mage_ai.io`, `get_repo_path`).
"""
from __future__ import annotations

import copy
import os
import re
import shutil
import sys
import tempfile
from typing import Any, Dict, List

import pandas
import yaml

_FOLDERS = {"custom": "custom"}
_INERT = ("markdown", "chart", "scratchpad")
_DECORATORS = ("data_loader", "transformer", "data_exporter", "custom", "sensor", "test", "preprocesser")


class Unsupported(Exception):
    """A pipeline that nobody would call by hand."""


def _handed_on(value: Any) -> Any:
    """A value of its own. Mage stores frames between blocks, and what is missing in a text column comes back as None;
    functions in the wild rely on it (`parse(x) if x else None`)."""
    value = copy.deepcopy(value)
    if isinstance(value, pandas.DataFrame):
        for number, dtype in enumerate(value.dtypes):
            if dtype == object:
                column = value.iloc[:, number]
                value.isetitem(number, column.where(column.notna(), None))
    elif type(value) is list:
        value = [_handed_on(element) for element in value]
    return value


class Project:
    """A private copy of a project folder, importable under the names that its files use."""

    def __init__(self, folder: str) -> None:
        self.root = tempfile.mkdtemp(prefix="by-hand-")
        self.folder = os.path.join(self.root, "default_repo", os.path.basename(os.path.abspath(folder)))
        shutil.copytree(folder, self.folder, ignore=shutil.ignore_patterns(".git"))
        sys.path[:0] = [self.folder, os.path.dirname(self.folder), self.root]
        os.environ["MAGE_RUNTIME__REPO_PATH"] = self.folder
        self._replace_products()

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def pipelines(self) -> List[str]:
        """Every pipeline, by name."""
        folder = os.path.join(self.folder, "pipelines")
        return sorted(name for name in os.listdir(folder)
                      if os.path.exists(os.path.join(folder, name, "metadata.yaml")))

    def blocks(self, pipeline: str) -> List[Dict[str, Any]]:
        """The blocks in an order in which each comes after its upstream blocks."""
        metadata = self._yaml(os.path.join("pipelines", pipeline, "metadata.yaml"))
        if metadata.get("callbacks") or metadata.get("conditionals"):
            raise Unsupported("it has callbacks or conditionals")
        waiting = list(metadata.get("blocks") or [])
        ordered: List[Dict[str, Any]] = []
        while waiting:
            done = {block["uuid"] for block in ordered}
            ready = [block for block in waiting if set(block.get("upstream_blocks") or []) <= done]
            if not ready:
                raise Unsupported("its blocks form a cycle")
            ordered += ready
            waiting = [block for block in waiting if block not in ready]
        return ordered

    def run(self, pipeline: str) -> Dict[str, Any]:
        """What each block's function returned; for a block with children, a list with one entry per child."""
        before = os.getcwd()
        os.chdir(tempfile.mkdtemp(dir=self.root))
        try:
            results: Dict[str, Any] = {}
            children: set = set()
            blocks = {block["uuid"]: block for block in self.blocks(pipeline)}
            for uuid, block in blocks.items():
                if block["type"] not in _INERT and block.get("language") != "markdown":
                    results[uuid] = self._run(block, blocks, results, children)
            return results
        finally:
            os.chdir(before)

    def _run(self, block: Dict[str, Any], blocks: Dict[str, Any], results: Dict[str, Any], children: set) -> Any:
        fixed: Dict[int, Any] = {}
        split: Dict[int, List[Any]] = {}
        upstream = list(dict.fromkeys(block.get("upstream_blocks") or []))
        for place, parent in enumerate(upstream):
            settings = blocks[parent].get("configuration") or {}
            if settings.get("dynamic"):
                split[place] = list(results[parent][0])
            elif parent in children and not settings.get("reduce_output"):
                raise Unsupported("children of children")
            else:
                fixed[place] = results[parent]
        if len(split) > 1:
            raise Unsupported("a block with two dynamic parents")
        if not split:
            return self._call(block, [fixed[place] for place in range(len(upstream))])
        children.add(block["uuid"])
        (place, items), = split.items()
        return [self._call(block, [item if at == place else fixed[at] for at in range(len(upstream))])
                for item in items]

    def _call(self, block: Dict[str, Any], inputs: List[Any]) -> Any:
        inputs = [_handed_on(value) for value in inputs]
        if block.get("language") == "sql":
            return self._query(block, inputs)
        if block["type"] not in _DECORATORS or block.get("language") not in (None, "python"):
            raise Unsupported(f"a {block['type']} block in {block.get('language')}")
        found: Dict[str, List[Any]] = {name: [] for name in _DECORATORS}
        scope: Dict[str, Any] = {"__name__": "by_hand"}
        for name in _DECORATORS:
            scope[name] = lambda function, into=found[name]: into.append(function) or function
        path = self._file(block, ".py")
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), scope)
        returned = found[block["type"]][0](*inputs)
        for test in found["test"]:
            test(*(copy.deepcopy(returned) if type(returned) is list else [copy.deepcopy(returned)]))
        return returned

    def _query(self, block: Dict[str, Any], inputs: List[Any]) -> Any:
        """Raw SQL on DuckDB: `df_1` is the first upstream frame, with the names of columns that Mage gives them there."""
        import duckdb
        from mage_ai.io.sql import column_name

        settings = block.get("configuration") or {}
        if settings.get("data_provider") != "duckdb" or not settings.get("use_raw_sql"):
            raise Unsupported("SQL other than raw SQL on DuckDB")
        with open(self._file(block, ".sql"), encoding="utf-8") as file:
            text = re.sub(r"\{\{\s*(df_\d+)\s*\}\}", r"\1", file.read())
        with duckdb.connect() as connection:
            for number, frame in enumerate(inputs, start=1):
                connection.register(f"df_{number}", frame.rename(columns=column_name))
            return connection.execute(text).fetch_df()

    def _file(self, block: Dict[str, Any], extension: str) -> str:
        folder = _FOLDERS.get(block["type"], block["type"] + "s")
        return os.path.join(self.folder, folder, block["uuid"] + extension)

    def _yaml(self, path: str) -> Dict[str, Any]:
        with open(os.path.join(self.folder, path), encoding="utf-8") as file:
            return yaml.safe_load(file) or {}

    def _replace_products(self) -> None:
        """A global data product is another pipeline's output: here that pipeline is called by hand too."""
        from mage_ai.data_preparation.models.global_data_product import GlobalDataProduct

        project = self

        class ByHand:
            def __init__(self, uuid: str) -> None:
                self.product = project._yaml("global_data_products.yaml")[uuid]

            def get_outputs(self, *args: Any, **kwargs: Any) -> Dict[str, List[Any]]:
                results = project.run(self.product["object_uuid"])
                wanted = {uuid: results[uuid] for uuid in self.product["settings"]}
                lists = {uuid: value if type(value) is list else [value] for uuid, value in wanted.items()}
                return {uuid: [_handed_on(value) for value in values] for uuid, values in lists.items()}

        GlobalDataProduct.get = staticmethod(lambda uuid, *args, **kwargs: ByHand(uuid))
