"""Secrets of the run's pipeline, workspace and project."""
from __future__ import annotations

import logging
from typing import Any, Optional

from orrery_runner import templates


def get_secret_value(name: str, *_args: Any, **_options: Any) -> Optional[str]:
    """The secret's value; None, with a warning, if there is none."""
    value = templates.secret(name)
    if value is None:
        logging.getLogger("orrery").warning("there is no secret %s in this pipeline, its workspace or its project", name)
    return value


def create_secret(name: str, *_args: Any, **_options: Any) -> None:
    """Refused: blocks read secrets and never define them."""
    raise NotImplementedError(f"create_secret('{name}'): define secrets through the workspace, not from a block")
