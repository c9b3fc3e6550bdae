"""Executes a block's Python file in fresh globals and finds its decorated functions. It does not call them."""
from __future__ import annotations

import importlib.machinery
import os
import re
import sys
import types
from typing import Any, Dict, List, Optional

from orrery_runner import disk, recorder
from orrery_runner.failures import BlockError
from orrery_runner.recorder import Decorated, Recorder

# The name of the decorator where it is not the block's kind itself.
_DECORATOR_OF_KIND = {"conditional": "condition", "chart": "data_source"}
_FOLDER_OF_KIND = {"custom": "custom", "dbt": "dbt"}
_EXTENSION = {"python": ".py", "sql": ".sql", "r": ".r", "yaml": ".yaml", "markdown": ".md"}


class BlockFile:
    """A file that was executed: its globals and its decorated functions."""

    def __init__(self, block: Dict[str, Any], path: str, found: Recorder) -> None:
        self.block = block
        self.path = path
        self._found = found

    def first(self) -> Decorated:
        """The function to run: the first with the decorator of the block's kind."""
        wanted = decorator_of(self.block)
        functions = self._found.of(wanted)
        if functions:
            return functions[0]
        others = sorted({entry.decorator for entry in self._found.entries} - {"test", "preprocesser"})
        hint = f"; it has functions with @{', @'.join(others)}" if others else ""
        raise BlockError(
            f"block {self.block['uuid']}: no function in {self.path} is decorated with @{wanted}{hint}. "
            f"Decorate the function that does the work with @{wanted}")

    def of(self, *decorators: str) -> List[Decorated]:
        """All functions with one of these decorators, in file order."""
        return self._found.of(*decorators)


def decorator_of(block: Dict[str, Any]) -> str:
    """The decorator that a block of this kind looks for."""
    return _DECORATOR_OF_KIND.get(block["kind"], block["kind"])


def path_of(block: Dict[str, Any], repo_path: str) -> str:
    """The block's file; for a replica without one, the file of the block that it replicates."""
    relative = block.get("file")
    if not relative:
        kind = block["kind"]
        folder = _FOLDER_OF_KIND.get(kind, f"{kind}s")
        language = block.get("language") or "python"
        relative = os.path.join(folder, (block.get("replica_of") or block["uuid"]) + _EXTENSION.get(language, ".py"))
    return os.path.normpath(os.path.join(repo_path, relative))


def read(block: Dict[str, Any], repo_path: str) -> str:
    """The text of the block's file."""
    path = path_of(block, repo_path)
    try:
        text = disk.read(path).decode("utf-8")
    except FileNotFoundError:
        raise BlockError(f"block {block['uuid']}: its file {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise BlockError(f"block {block['uuid']}: its file {path} is not UTF-8: {error}") from None
    return (text[1:] if text.startswith("\ufeff") else text).replace("\r\n", "\n").replace("\r", "\n")


def load(block: Dict[str, Any], repo_path: str, extra: Optional[Dict[str, Any]] = None) -> BlockFile:
    """Executes the file; `extra` are further globals, such as the upstream values by name."""
    path = path_of(block, repo_path)
    source = read(block, repo_path)
    # A module of its own in sys.modules: dataclasses and typing look their module up by name.
    uuid = block["uuid"]
    module = types.ModuleType("orrery_block_" + (uuid if uuid.isidentifier() else re.sub(r"\W", "_", uuid)))
    namespace = module.__dict__
    namespace["__file__"] = path
    # Upstream uuids first: a block named `test` upstream must not hide the decorator.
    namespace.update(extra or {})
    for name in {"test", "preprocesser", decorator_of(block)}:
        namespace[name] = recorder.make(name)
    if block["kind"] == "callback":
        namespace.update(on_success=recorder.make("on_success"), on_failure=recorder.make("on_failure"))
    sys.modules[module.__name__] = module
    found = Recorder(namespace)
    before = recorder.activate(found)
    try:
        exec(compile(source, path, "exec", dont_inherit=True), namespace)
    finally:
        recorder.activate(before)
    return BlockFile(block, path, found)


def set_import_path(repo_path: str, project_name: str) -> None:
    """Makes `utils.x` and `<project>.utils.x` importable.

    The project comes after the standard library, so that a `secrets.py` of its own breaks no library, and before
    installed packages; its parent folder comes last, since it may hold anything.
    """
    for path in (repo_path, os.path.dirname(repo_path)):
        while path in sys.path:
            sys.path.remove(path)
    position = 0
    for path in sys.path:
        if path.rstrip(os.sep).endswith(("site-packages", "dist-packages")):
            break
        position += 1
    sys.path.insert(position, repo_path)
    sys.path.append(os.path.dirname(repo_path))
    _aliases.folders = {
        # The folder's name in Mage's own image: many projects import themselves, or a neighbour, by it.
        "default_repo": [repo_path, os.path.dirname(repo_path)],
        project_name: [repo_path],
    }
    if _aliases not in sys.meta_path:
        sys.meta_path.append(_aliases)


class _Aliases:
    """Makes a project importable by a name that its folder no longer has, unless something else has that name: it is
    asked last, and only when somebody imports that name."""

    folders: Dict[str, List[str]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        """As the import system asks."""
        folders = self.folders.get(name)
        if folders is None:
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = folders
        return spec


_aliases = _Aliases()
