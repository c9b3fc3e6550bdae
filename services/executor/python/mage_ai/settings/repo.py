"""Where the project and its data lie."""
from __future__ import annotations

import contextlib
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
    """A folder for files that blocks keep by themselves; outputs of blocks are not in it.

    `MAGE_DATA_DIR` wins over the project's `variables_dir`. As in Mage, one that is relative is a folder of the project, any other
    has one for each project, and it is there; a bucket is no folder.
    """
    chosen = os.path.expanduser(os.environ.get("MAGE_DATA_DIR") or _written_variables_dir() or "~/.mage_data")
    folder = os.path.join(chosen, get_repo_name()) if os.path.isabs(chosen) else os.path.join(get_repo_path(), chosen)
    with contextlib.suppress(OSError):  # a place that cannot be written to may still be read
        os.makedirs(folder, exist_ok=True)
    return os.path.abspath(folder)


def _written_variables_dir() -> str:
    """The `variables_dir` of the project's metadata, when it is a folder."""
    import yaml

    from orrery_runner import templates

    try:
        with open(os.path.join(get_repo_path(), "metadata.yaml"), encoding="utf-8") as file:
            settings = yaml.safe_load(templates.render_config(file.read()))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    written = settings.get("variables_dir") if isinstance(settings, dict) else None
    return written.strip() if isinstance(written, str) and "://" not in written else ""


def get_data_dir() -> str:
    """Where the variables folders are unless a project says otherwise."""
    return os.environ.get("MAGE_DATA_DIR") or os.path.expanduser("~/.mage_data")


def set_repo_path(*_args: Any, **_options: Any) -> None:
    """Nothing to do: the job says where the project is."""
