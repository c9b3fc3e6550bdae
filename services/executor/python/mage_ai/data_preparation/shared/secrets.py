"""Secrets that the scheduler gave this block."""
from __future__ import annotations

import logging
from typing import Any, Optional

from orrery_runner import templates


def get_secret_value(name: str, *_args: Any, **_options: Any) -> Optional[str]:
    """The secret's value; None, with a warning, if this block was not given it."""
    value = templates.secret(name)
    if value is None:
        logging.getLogger("orrery").warning("the secret %s is not among those that this block was given", name)
    return value


def create_secret(name: str, *_args: Any, **_options: Any) -> None:
    """Refused: blocks read secrets and never define them."""
    raise NotImplementedError(f"create_secret('{name}'): define secrets through the workspace, not from a block")
