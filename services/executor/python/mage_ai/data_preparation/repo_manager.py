"""The older home of `get_repo_path`, and the project's own settings."""
from __future__ import annotations

import os
from typing import Any, Dict, Optional

from mage_ai.settings.repo import get_repo_name, get_repo_path, get_variables_dir

__all__ = ["RepoConfig", "get_repo_config", "get_repo_name", "get_repo_path", "get_variables_dir"]


class RepoConfig:
    """The project's metadata.yaml."""

    def __init__(self, repo_path: Optional[str] = None, **_options: Any) -> None:
        import yaml

        from orrery_runner import templates

        self.repo_path = repo_path or get_repo_path()
        self.variables_dir = get_variables_dir()
        path = os.path.join(self.repo_path, "metadata.yaml")
        self.repo_config: Dict[str, Any] = {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.repo_config = yaml.safe_load(templates.render_config(file.read())) or {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "repo_config":
            raise AttributeError(name)
        return self.repo_config.get(name)


def get_repo_config(repo_path: Optional[str] = None, **_options: Any) -> RepoConfig:
    """The settings of a project."""
    return RepoConfig(repo_path)
