"""R blocks: the file's function for its kind, run by Rscript with frames exchanged as CSV."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from typing import Any, Dict, List, Optional

from orrery_runner import blockfile, data_product, frames
from orrery_runner.failures import BlockError
from orrery_runner.inputs import Inputs

_FUNCTIONS = {"data_loader": "load_data", "transformer": "transform", "data_exporter": "export_data"}
# R has written the error to its log by then.
_ON_ERROR = """options(error = quote({{
  cat(geterrmessage(), file = {file})
  quit(save = "no", status = 1, runLast = FALSE)
}}))
"""
# As in Mage a vector of texts, also to write to, but for `$`, which a vector does not have: it gives the variable itself.
_GLOBAL_VARS = """
`[.global_vars` <- function(x, i) attr(x, "texts")[i]
`[[.global_vars` <- function(x, i) attr(x, "texts")[[i]]
`[<-.global_vars` <- function(x, i, value) {
  texts <- attr(x, "texts")
  variables <- structure(unclass(x), texts = NULL)
  texts[i] <- value
  variables[i] <- as.list(value)
  structure(variables, texts = texts, class = "global_vars")
}
`[[<-.global_vars` <- `$<-.global_vars` <- function(x, i, value) {
  texts <- attr(x, "texts")
  variables <- structure(unclass(x), texts = NULL)
  texts[[i]] <- if (length(value) == 1) as.character(value) else paste(value, collapse = ", ")
  variables[i] <- list(value)
  structure(variables, texts = texts, class = "global_vars")
}"""


def run(job: Dict[str, Any], inputs: Inputs, kwargs: Dict[str, Any]) -> Any:
    """The frame that the R function returned; None of an exporter."""
    block = job["block"]
    rscript = shutil.which("Rscript")
    if rscript is None:
        raise BlockError(f"block {block['uuid']} is written in R, and Rscript is not installed on this executor; "
                         "install R there, or run the block on an executor that has it")
    function = _FUNCTIONS.get(block["kind"])
    if function is None:
        raise BlockError(f"block {block['uuid']}: R blocks are data loaders, transformers and data exporters, not "
                         f"{block['kind']}")
    path = blockfile.path_of(block, job["repo_path"])
    with tempfile.TemporaryDirectory(prefix="rblock-") as folder:
        result, fault = os.path.join(folder, "result.csv"), os.path.join(folder, "fault.txt")
        names = _write_inputs(job, inputs, folder)
        script = os.path.join(folder, "main.R")
        with open(script, "w", encoding="utf-8") as file:
            file.write(_ON_ERROR.format(file=_text(fault)))
            file.write(_script(path, function, names, kwargs, result, block["kind"] != "data_exporter"))
        ended = subprocess.run([rscript, "--vanilla", script], cwd=os.getcwd(), stdin=subprocess.DEVNULL, check=False)
        if ended.returncode:
            why = _fault(fault) or "its log says why"
            raise BlockError(f"block {block['uuid']}: Rscript ended with code {ended.returncode}; {why}")
        return _read(result)


def _fault(path: str) -> str:
    """R's own words for what ended it; none where something else did."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return " ".join(file.read().split())


def _write_inputs(job: Dict[str, Any], inputs: Inputs, folder: str) -> List[str]:
    uuid = job["block"]["uuid"]
    names = []
    for number, (parent, given) in enumerate(zip(inputs.uuids, inputs.values), start=1):
        value = data_product.as_table(job, parent, given)
        if frames.kind_of(value) not in ("dataframe", "polars_dataframe"):
            raise BlockError(f"block {uuid}: R blocks take data frames; input {number} is a {type(value).__name__}")
        name = os.path.join(folder, f"df_{number}.csv")
        if frames.kind_of(value) == "dataframe":
            value.to_csv(name, index=False)
        else:
            value.write_csv(name)
        names.append(name)
    return names


def _read(path: str) -> Optional[Any]:
    import pandas

    if not os.path.exists(path):
        return None
    try:
        return pandas.read_csv(path)
    except pandas.errors.EmptyDataError:
        return pandas.DataFrame()


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(value: Any) -> str:
    """A variable as R writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "list(" + ", ".join(f"{_name(key)} = {_literal(item)}" for key, item in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return "list(" + ", ".join(_literal(item) for item in value) + ")"
    return _text(str(value))


def _as_text(value: Any) -> str:
    """A variable as Mage writes it for R: maps as JSON, everything else as Python shows it."""
    return _text(json.dumps(value, default=str) if isinstance(value, dict) else str(value))


def _name(key: Any) -> str:
    return "`" + str(key).replace("`", "") + "`"


def _script(path: str, function: str, names: List[str], kwargs: Dict[str, Any], result: str, stores: bool) -> str:
    variables = {key: value for key, value in kwargs.items() if key not in ("logger", "context")}
    texts = ", ".join(f"{_name(key)} = {_as_text(value)}" for key, value in variables.items())
    lines = [f"global_vars <- structure({_literal(variables)}, texts = c({texts}), class = \"global_vars\")", _GLOBAL_VARS]
    arguments = []
    for number, name in enumerate(names, start=1):
        # Names of columns become names of R, as in Mage: its blocks say `Name.of`.
        lines.append(f"df_{number} <- read.csv({_text(name)})")
        arguments.append(f"df_{number}")
    lines += [
        f"source({_text(path)}, keep.source = FALSE)",
        f"if (!exists({_text(function)}, inherits = FALSE)) stop({_text('the file defines no function ' + function)})",
        f".result <- {function}({', '.join(arguments)})",
    ]
    if stores:
        lines.append(f"if (!is.null(.result)) write.csv(as.data.frame(.result), {_text(result)}, row.names = FALSE)")
    return "\n".join(lines) + "\n"
