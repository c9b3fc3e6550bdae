"""The interface that the code of Mage projects imports, served by Orrery's runner.

Module and function names are the interface; everything else is this runner's own. Importing what is not there says what to do
instead.
"""
from __future__ import annotations

import sys as _sys
from typing import Any as _Any

# The first that fits.
_INSTEAD = (
    ("mage_ai.orchestration", "runs are not rows that a block can read; use trigger_pipeline and check_status, or the API"),
    ("mage_ai.data_preparation.models", "use mage_ai.data_preparation.variable_manager for variables and outputs, and "
                                        "trigger_pipeline for other pipelines"),
    ("mage_ai.streaming", "streaming pipelines do not run here; let a sensor or a trigger start a batch pipeline"),
    ("mage_ai.data_integrations", "integration pipelines do not run here; use the source's own client in a Python block"),
    ("mage_ai.io", "add the client of that source to the project's requirements.txt and use it directly"),
    ("mage_ai.services", "add the client of that service to the project's requirements.txt and use it directly"),
    ("mage_ai", "write what the block needs of it in the project, with the packages of its requirements.txt"),
)


class _Missing:
    """Asked last by the import system, and only for modules that nobody has found."""

    @staticmethod
    def find_spec(name: str, path: _Any = None, target: _Any = None) -> None:
        """Refuses modules of Mage; everything else is not its business."""
        del path, target
        advice = [text for prefix, text in _INSTEAD if name.startswith(prefix + ".")]
        if advice:
            # Without the module's name: `from package import module` would hide this sentence behind its own.
            raise ModuleNotFoundError(f"{name} is a part of Mage that is not supported here; {advice[0]}")


_sys.meta_path.append(_Missing)  # type: ignore[arg-type]
