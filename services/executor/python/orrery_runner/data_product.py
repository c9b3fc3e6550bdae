"""Global data products: another pipeline's outputs, refreshed first if they are older than the project allows."""
from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from orrery_runner import current, outputs
from orrery_runner.failures import BlockError

FILE = "global_data_products.yaml"
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400, "weeks": 604_800, "months": 2_628_000,
            "years": 31_536_000}
_MOMENT = ("second_of_minute", "minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year",
           "week_of_month", "week_of_year", "month_of_year")


def definition(uuid: str) -> Dict[str, Any]:
    """The product as the project's file defines it."""
    import yaml

    path = os.path.join(current.repo_path(), FILE)
    try:
        with open(path, encoding="utf-8") as file:
            products = yaml.safe_load(file) or {}
    except FileNotFoundError:
        products = {}
    if uuid not in products:
        raise BlockError(f"the global data product {uuid} is not defined in {path}")
    found = dict(products[uuid] or {})
    if found.get("object_type", "pipeline") != "pipeline":
        raise BlockError(f"the global data product {uuid} is of type {found['object_type']}; only pipelines can be used")
    return found


def refresh(uuid: str, product: Dict[str, Any], variables: Optional[Dict[str, Any]] = None) -> None:
    """Runs the product's pipeline unless a completed run is young enough; waits for it without holding a slot. The cluster
    decides, so that of all who ask at once one starts a run, and the others wait for that one."""
    pipeline = product.get("object_uuid") or uuid
    seconds = sum(_SECONDS[unit] * float(amount) for unit, amount in (product.get("outdated_after") or {}).items()
                  if unit in _SECONDS and amount)
    run = current.call("trigger_pipeline", {
        "pipeline_uuid": pipeline, "variables": variables or {}, "key": current.next_trigger_key(),
        "product": {"outdated_after_s": seconds, "outdated_starting_at": _starting_at(uuid, product)}})
    if run["run_id"] is None:
        return
    ended = current.call("wait_run", {"run_id": run["run_id"]})
    if ended["status"] != "completed":
        raise BlockError(f"the global data product {uuid} cannot be refreshed: its pipeline {pipeline} ended as "
                         f"{ended['status']}{': ' + ended['reason'] if ended.get('reason') else ''}")


def _starting_at(uuid: str, product: Dict[str, Any]) -> Dict[str, int]:
    """What the moment must be from which on the product is out of date; the cluster compares."""
    given = {key: value for key, value in (product.get("outdated_starting_at") or {}).items()
             if key in _MOMENT and value is not None}
    try:
        return {key: int(value) for key, value in given.items()}
    except (TypeError, ValueError) as error:
        raise BlockError(f"outdated_starting_at of the global data product {uuid} has no whole numbers: {given}") from error


def read(product: Dict[str, Any], uuid: str) -> Dict[str, List[Any]]:
    """The outputs of each block that the product exposes, from its latest completed run."""
    pipeline = product.get("object_uuid") or uuid
    found: Dict[str, List[Any]] = {}
    for block in (product.get("settings") or {}):
        place = current.call("get_variable", {
            "pipeline_uuid": pipeline, "block_uuid": block, "variable_uuid": "output_0", "partition": None})
        found[block] = outputs.read(place["dir"]) if place else []
    return found


def _settings(block: Dict[str, Any]) -> Dict[str, Any]:
    return (block.get("configuration") or {}).get("global_data_product") or {}


def name_of(block: Dict[str, Any]) -> str:
    """The product that a block of kind global_data_product uses."""
    return str(_settings(block).get("uuid") or block["uuid"])


def as_table(job: Dict[str, Any], uuid: str, value: Any) -> Any:
    """The input from block `uuid` for languages that know tables and no maps: of a product the outputs themselves."""
    if ((job.get("upstream") or {}).get(uuid) or {}).get("kind") != "global_data_product" or not isinstance(value, dict):
        return value
    return outputs.join([item for listed in value.values() for item in listed])


def run(job: Dict[str, Any], kwargs: Dict[str, Any]) -> Any:
    """A block of kind global_data_product. The next blocks get what `GlobalDataProduct.get_outputs` answers, as in Mage: a map
    from each block to the list of its outputs. The run that it starts, if it does, is told of the block's remote blocks."""
    settings = _settings(job["block"])
    uuid = name_of(job["block"])
    product = {**definition(uuid), **{key: value for key, value in settings.items()
                                      if key in ("outdated_after", "outdated_starting_at", "settings") and value}}
    refresh(uuid, product, _variables(kwargs))
    return read(product, uuid)


def _variables(kwargs: Dict[str, Any]) -> Dict[str, Any]:
    """As in Mage: those that a variable called `variables` holds, and the remote blocks, by name and not by what they gave."""
    given = kwargs.get("variables")
    found: Dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    remote = [block.to_dict() if hasattr(block, "to_dict") else block for block in kwargs.get("remote_blocks") or []]
    if remote:
        found["remote_blocks"] = [*(found.get("remote_blocks") or []), *remote]
    return found
