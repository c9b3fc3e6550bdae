"""Variables for templates that projects render themselves."""
from __future__ import annotations

from typing import Any, Dict

from orrery_runner import templates


def get_template_vars(*_args: Any, **_options: Any) -> Dict[str, Any]:
    """The functions that templates of configuration files may call."""
    return templates._functions()


get_template_vars_no_db = get_template_vars
