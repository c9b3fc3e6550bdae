"""How many positional arguments a block function takes, and how it is called."""
from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import sys
import traceback
import types
from typing import Any, Callable, Dict, List

from orrery_runner.failures import BlockError

_COUNTED_KINDS = frozenset(
    ("chart", "custom", "data_exporter", "data_loader", "dbt", "extension", "global_data_product", "sensor",
     "transformer"))
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Shape:
    """What a function accepts."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if type(function) is types.FunctionType and not function.__dict__:
            self._of_code(function.__code__)
            self.required = len(self.positional) - len(function.__defaults__ or ())
        else:
            self._of_signature(function)

    def _of_code(self, code: types.CodeType) -> None:
        """A plain function says it all by itself; a signature would be a thousand objects for the same."""
        self.positional = list(code.co_varnames[: code.co_argcount])
        self.var_args = bool(code.co_flags & inspect.CO_VARARGS)
        self.var_kwargs = bool(code.co_flags & inspect.CO_VARKEYWORDS)
        self.named = code.co_argcount + code.co_kwonlyargcount

    def _of_signature(self, function: Callable[..., Any]) -> None:
        """One that is wrapped, or no function at all."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # built-ins without a signature take what they are given
            parameters = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self.positional = [p.name for p in positional]
        self.required = sum(p.default is p.empty for p in positional)
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
    owner = os.getpid()
    try:
        result = function(*inputs, **_free(shape, inputs, kwargs)) if shape.var_kwargs else function(*inputs)
        result = asyncio.run(result) if isinstance(result, types.CoroutineType) else result
    except BaseException:
        if os.getpid() != owner:
            traceback.print_exc()
            _end_copy(1)
        raise
    if os.getpid() != owner:
        _end_copy(0)
    return result


def _end_copy(code: int) -> None:
    """User code may fork and let its copy return; only the original goes on in our stack."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _free(shape: Shape, inputs: List[Any], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """Without the kwargs whose parameter an input fills already: a block may call its input `event`."""
    filled = shape.positional[: len(inputs)]
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
