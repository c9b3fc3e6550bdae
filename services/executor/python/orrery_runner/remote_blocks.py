"""`remote_blocks` of the kwargs: outputs of blocks of other pipelines, which a run, an item or a data product names."""
from __future__ import annotations

from typing import Any, Dict, List

from orrery_runner import inputs

PRODUCT = "global_data_product"


def fill(job: Dict[str, Any], found: inputs.Inputs, kwargs: Dict[str, Any]) -> None:
    """As in Mage a block gets a list of outputs for each of them, and a data product what names them: it tells the run that it
    starts. Of an upstream data product they are its blocks, and with them those of the run are not told."""
    products = [(uuid, value) for uuid, value in zip(found.uuids, found.values)
                if ((job.get("upstream") or {}).get(uuid) or {}).get("kind") == PRODUCT and isinstance(value, dict)]
    named = (found.metadata if products else kwargs).get("remote_blocks") or []
    if not named and not products:
        return
    if job["block"]["kind"] == PRODUCT:
        told = [*named, *(block for uuid, value in products for block in _of_product(job, uuid, value))]
    else:
        told = [*_outputs(named), *(listed for _, value in products for listed in value.values())]
    kwargs["remote_blocks"] = told


def _outputs(blocks: Any) -> List[Any]:
    from mage_ai.data_preparation.models.block.remote.models import RemoteBlock

    return [(block if isinstance(block, RemoteBlock) else RemoteBlock.load(**block)).get_outputs() for block in blocks]


def _of_product(job: Dict[str, Any], uuid: str, value: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The blocks in a product's output, by name: as they are in the latest completed run of its pipeline."""
    from orrery_runner import data_product

    name = data_product.name_of(job["upstream"][uuid])
    pipeline = data_product.definition(name).get("object_uuid") or name
    return [{"block_uuid": block, "pipeline_uuid": pipeline, "repo_path": None, "execution_partition": None}
            for block in value]
