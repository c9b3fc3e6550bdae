"""The text of a SQL block with its placeholders filled."""
from __future__ import annotations

import re
from typing import Any, Callable, Dict, List

from orrery_runner import templates
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs

_BLOCK_OUTPUT = re.compile(r"\{\{-?\s*block_output\s*\(")


def fill(text: str, uuid: str, inputs: Inputs, kwargs: Dict[str, Any], table: Callable[[int], str]) -> str:
    """`table` says by which name the n-th upstream block, from zero, can be read; it is asked only for those used."""
    text = _fill_block_outputs(text, uuid, inputs, kwargs)
    variables = dict(kwargs)
    for position in range(len(inputs.values)):
        if re.search(rf"\bdf_{position + 1}\b", text):
            variables[f"df_{position + 1}"] = table(position)
    return templates.render_block(text, uuid, variables)


def _fill_block_outputs(text: str, uuid: str, inputs: Inputs, kwargs: Dict[str, Any]) -> str:
    """`block_output` may hold a Python lambda, which the template language cannot read, so Python reads it."""
    done: List[str] = []
    position = 0
    while True:
        found = _BLOCK_OUTPUT.search(text, position)
        if found is None:
            return "".join(done) + text[position:]
        opening = text.index("block_output", found.start())
        end, expression = _expression(text, opening, uuid)
        done.append(text[position:found.start()])
        value = _evaluate(expression, uuid, inputs, kwargs)
        # What comes from data must not be read as a template again.
        done.append("{% raw %}" + str(value) + "{% endraw %}" if "{" in str(value) else str(value))
        position = end


def _expression(text: str, opening: int, uuid: str) -> Any:
    """The longest-needed text up to the closing braces that Python can parse: a lambda may hold braces itself."""
    end = opening
    while True:
        end = text.find("}}", end)
        if end < 0:
            raise BlockError(f"block {uuid}: {{{{ block_output(…) is not closed, or is not valid Python")
        expression = text[opening:end].rstrip().rstrip("-").strip()
        try:
            return end + 2, compile(expression, "<block_output>", "eval")
        except SyntaxError:
            end += 1


def _evaluate(code: Any, uuid: str, inputs: Inputs, kwargs: Dict[str, Any]) -> Any:
    named = inputs.names()

    def block_output(block_uuid: Any = None, parse: Any = None, **_options: Any) -> Any:
        if block_uuid is not None and block_uuid not in named:
            raise BlockError(f"block {uuid}: block_output('{block_uuid}') is not an upstream block; its upstream blocks "
                             f"are {', '.join(inputs.uuids) or 'none'}")
        data = named[block_uuid] if block_uuid is not None else list(inputs.values)
        return parse(data, dict(kwargs)) if parse is not None else data

    return eval(code, {"block_output": block_output, **kwargs})
