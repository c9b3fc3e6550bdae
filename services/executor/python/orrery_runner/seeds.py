"""Random numbers of its own for every forked child: the generator of the standard library and numpy's global one would give
each child the numbers of the zygote.

Seeding as numpy does it touches much memory, which a fresh fork has to copy. Where numpy shows the state of its
generator, it is overwritten instead: any words are a valid state of a Mersenne twister.
"""
from __future__ import annotations

import os
import random
import sys
from typing import Any, Optional

# More than anybody can guess; the generator's whole state would be hundreds of times as much.
_SEED_BYTES = 32

_state: Optional[Any] = None


def find() -> None:
    """Looks where numpy keeps the state, and believes it only when what is there is what numpy says is there."""
    global _state
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    import ctypes

    numpy.random.seed()
    try:
        generator = numpy.random.get_bit_generator()
        told = numpy.random.get_state(legacy=False)
        words = told["state"]["key"].tobytes()
        state = (ctypes.c_char * len(words)).from_address(generator.ctypes.state_address)
        # At the end of its words, so that the first number drawn makes new ones from all of them.
        told["state"]["pos"] = len(told["state"]["key"])
        numpy.random.set_state(told)
        if told["bit_generator"] == "MT19937" and state.raw == words:
            _state = state
    except (AttributeError, KeyError, TypeError):
        pass  # an older numpy


def renew() -> None:
    """In a child, before anything draws."""
    random.seed(int.from_bytes(os.urandom(_SEED_BYTES), "big"))
    if _state is not None:
        _state.raw = os.urandom(len(_state))
        return
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
