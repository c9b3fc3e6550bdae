"""Loggers; their records become lines of the block's log."""
from __future__ import annotations

import logging
from typing import Any

from orrery_runner.logs import BlockLogger

logger = logging.getLogger("mage_ai")


class Logger(BlockLogger):
    """A logger that takes further keywords."""

    def __init__(self, name: str = "mage_ai", **_options: Any) -> None:
        super().__init__(name)


def get_logger(name: str = "mage_ai", *_args: Any, **_options: Any) -> BlockLogger:
    """A logger by name."""
    return BlockLogger(name)
