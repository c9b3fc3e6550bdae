"""The template language of project files and SQL blocks. Knows where values come from, not what the text is for."""
from __future__ import annotations

import json
import logging
import os
from typing import Any, Callable, Dict, Optional

from orrery_runner import current
from orrery_runner.failures import BlockError

SECRET_PREFIX = "ORRERY_SECRET_"
_log = logging.getLogger("orrery")


def secret(name: str) -> Optional[str]:
    """A secret of the run's pipeline, workspace or project, or None. Asked anew each time: it may change meanwhile."""
    given = os.environ.get(SECRET_PREFIX + name)
    if given is not None or not current.has_executor():
        return given
    answer = current.call("get_secret", {"name": name})
    return answer.get("value") if isinstance(answer, dict) else None


def _secret_var(name: str) -> Optional[str]:
    value = secret(name)
    if value is None:
        _log.warning("there is no secret %s in this pipeline, its workspace or its project", name)
    return value


def _json_value(text: Any, key: Any) -> Any:
    """The value below `a.b[0]`; a text that is no JSON is the value itself."""
    from mage_ai.shared.hash import dig

    value = text
    if isinstance(text, str) and text:
        try:
            value = json.loads(text)
        except ValueError:
            return text
    try:
        return dig(value, key)
    except (AttributeError, IndexError, KeyError, TypeError):
        return None


def _unsupported(name: str) -> Callable[[str], Any]:
    def refuse(secret_name: str, *_args: Any) -> Any:
        _log.warning("%s is not supported; give the block the secret %s as an environment variable", name, secret_name)
        return None

    return refuse


def _functions() -> Dict[str, Any]:
    return {
        "env_var": lambda name, default=None: os.environ.get(name, default),
        "mage_secret_var": _secret_var,
        "json_value": _json_value,
        "aws_secret_var": _unsupported("aws_secret_var"),
        "azure_secret_var": _unsupported("azure_secret_var"),
    }


def render_config(text: str, variables: Optional[Dict[str, Any]] = None) -> str:
    """A configuration file, with the variables of a block's run if it has one: what is not defined becomes empty, since most
    profiles of a file are not in use."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, keep_trailing_newline=True,
                                     finalize=lambda value: "" if value is None else value)
    try:
        known = dict(variables or {})
        return environment.from_string(text).render({**known, **_functions(), "variables": known.get})
    except jinja2.TemplateError as error:
        raise ValueError(f"the template of a configuration file is wrong: {error}") from error


def render_block(text: str, uuid: str, variables: Dict[str, Any]) -> str:
    """A block's text: what is not defined is an error that names it."""
    import jinja2

    class Unset(jinja2.Undefined):
        """As in Mage it is false, so that a text may ask for it; what would print it fails."""

        __slots__ = ()
        __iter__ = __str__ = __len__ = jinja2.Undefined._fail_with_undefined_error  # type: ignore[assignment]

    def unset(why: str) -> Unset:
        return Unset(hint=f"block {uuid}: {why}", exc=BlockError)  # type: ignore[arg-type]

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    known: Dict[str, Any] = {**variables, **_functions()}

    def variable(name: str, parse: Any = None) -> Any:
        """`parse` is the text of a function, as the template language has none."""
        if name not in variables:
            return unset(f"variables('{name}') is not defined; define it in the pipeline, the trigger or the run")
        return eval(parse, {})(variables[name]) if parse else variables[name]

    def environment_variable(name: str, *default: Any) -> Any:
        value = os.environ.get(name, *default)
        return unset(f"env_var('{name}') is not set and has no default") if value is None and not default else value

    def secret_variable(name: str) -> Any:
        value = secret(name)
        return unset(f"there is no secret {name} in this pipeline, its workspace or its project") if value is None else value

    known.update(variables=variable, env_var=environment_variable, mage_secret_var=secret_variable)
    try:
        return environment.from_string(text).render(known)
    except jinja2.UndefinedError as error:
        raise BlockError(f"block {uuid}: {error}; define it as a variable of the pipeline, the trigger or the run"
                         ) from None
    except TypeError as error:
        raise BlockError(f"block {uuid}: its template fails: {error}") from None
    except jinja2.TemplateSyntaxError as error:
        raise BlockError(f"block {uuid}: its template is wrong at line {error.lineno}: {error.message}") from None
