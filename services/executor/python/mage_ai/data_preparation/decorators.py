"""The decorators of block files; each records where a block is loaded, and changes nothing anywhere else."""
from __future__ import annotations

import sys as _sys
from typing import Any

from orrery_runner import recorder as _recorder

for _name in _recorder.DECORATORS:
    setattr(_sys.modules[__name__], _name, _recorder.make(_name))
del _name


def __getattr__(name: str) -> Any:
    raise AttributeError(f"mage_ai.data_preparation.decorators has no decorator {name}; "
                         f"it has {', '.join(_recorder.DECORATORS)}")
