"""How many positional arguments a block function takes, and how it is called."""
from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import sys
import traceback
from typing import Any, Callable, Dict, Iterator, List

from orrery_runner.failures import BlockError

_COUNTED_KINDS = frozenset(
    ("chart", "custom", "data_exporter", "data_loader", "dbt", "extension", "global_data_product", "sensor",
     "transformer"))
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Shape:
    """What a function accepts."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # built-ins without a signature take what they are given
            parameters = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        self.positional = [p for p in parameters if p.kind in _POSITIONAL]
        self.var_args = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        self.var_kwargs = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        self.named = sum(p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
                         for p in parameters)

    def accepted(self, inputs: List[Any]) -> List[Any]:
        """As many of the inputs as the function has places for."""
        return list(inputs) if self.var_args else list(inputs[: len(self.positional)])


def call(function: Callable[..., Any], inputs: List[Any], kwargs: Dict[str, Any]) -> Any:
    """Calls with the inputs, and with the kwargs where the function has `**kwargs`; awaits a coroutine."""
    shape = Shape(function)
    with _staying_one():
        result = function(*inputs, **_free(shape, inputs, kwargs)) if shape.var_kwargs else function(*inputs)
        return asyncio.run(result) if inspect.iscoroutine(result) else result


@contextlib.contextmanager
def _staying_one() -> Iterator[None]:
    """User code may fork and let its copy return; only the original goes on in our stack."""
    owner = os.getpid()
    code = 1
    try:
        yield
        code = 0
    except BaseException:
        if os.getpid() != owner:
            traceback.print_exc()
        raise
    finally:
        if os.getpid() != owner:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)


def _free(shape: Shape, inputs: List[Any], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Without the kwargs whose parameter an input fills already: a block may call its input `event`."""
    filled = {parameter.name for parameter in shape.positional[: len(inputs)]}
    return {key: value for key, value in kwargs.items() if key not in filled}


def check_count(block: Dict[str, Any], function: Callable[..., Any], count: int) -> None:
    """Refuses a function that cannot take one argument per upstream block, before it fails in the middle."""
    if block["kind"] not in _COUNTED_KINDS or (block.get("language") or "python") != "python":
        return
    shape = Shape(function)
    upstream = ", ".join(block.get("upstream") or []) or "none"
    name = getattr(function, "__name__", "the function")
    if shape.named > count:
        raise BlockError(
            f"block {block['uuid']}: {name} has {shape.named} named parameters, but the block has {count} upstream "
            f"blocks ({upstream}). Remove parameters, connect upstream blocks, or take values from **kwargs")
    if shape.named < count and not shape.var_args and (not shape.var_kwargs or len(shape.positional) < count):
        raise BlockError(
            f"block {block['uuid']}: {name} has {shape.named} named parameters, but the block has {count} upstream "
            f"blocks ({upstream}). Add a parameter for each, or *args")


def call_sensor(function: Callable[..., Any], inputs: List[Any], kwargs: Dict[str, Any]) -> Any:
    """A sensor gets its inputs only where it has a place for them; most have none."""
    return call(function, Shape(function).accepted(inputs), kwargs)
