"""Where the project and its data lie."""
from __future__ import annotations

import os
from typing import Any, Optional

from orrery_runner import current


def get_repo_path(*_args: Any, **_options: Any) -> str:
    """The project's folder."""
    return current.repo_path()


def get_repo_name(repo_path: Optional[str] = None) -> str:
    """The name of the project's folder."""
    return os.path.basename(repo_path or get_repo_path())


def get_variables_dir(*_args: Any, **_options: Any) -> str:
    """A folder for files that blocks keep by themselves; outputs of blocks are not in it."""
    chosen = os.environ.get("MAGE_DATA_DIR") or os.path.join(os.path.expanduser("~"), ".mage_data")
    return os.path.join(chosen, get_repo_name())


def get_data_dir() -> str:
    """The parent of the variables folder."""
    return os.path.dirname(get_variables_dir())


def set_repo_path(*_args: Any, **_options: Any) -> None:
    """Nothing to do: the job says where the project is."""
