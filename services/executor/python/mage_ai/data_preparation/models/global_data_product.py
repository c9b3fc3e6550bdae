"""Outputs of another pipeline, refreshed when they are outdated."""
from __future__ import annotations

from typing import Any, Dict, List, Optional

from orrery_runner import data_product


class GlobalDataProduct:
    """One entry of the project's global_data_products.yaml."""

    def __init__(self, uuid: str, settings: Dict[str, Any]) -> None:
        self.uuid = uuid
        self._product = settings
        self.object_type = settings.get("object_type", "pipeline")
        self.object_uuid = settings.get("object_uuid")
        self.settings = settings.get("settings") or {}
        self.outdated_after = settings.get("outdated_after") or {}
        self.outdated_starting_at = settings.get("outdated_starting_at") or {}

    @classmethod
    def get(cls, uuid: str, *_args: Any, **_options: Any) -> "GlobalDataProduct":
        """The product of this name."""
        return cls(uuid, data_product.definition(uuid))

    def get_outputs(self, from_notebook: bool = False, global_vars: Optional[Dict[str, Any]] = None,
                    **_options: Any) -> Dict[str, List[Any]]:
        """Every exposed block's outputs by the block's name."""
        del from_notebook
        data_product.refresh(self.uuid, self._product, global_vars)
        return data_product.read(self._product, self.uuid)


def trigger_and_check_status(product: GlobalDataProduct, variables: Optional[Dict[str, Any]] = None,
                             **_options: Any) -> None:
    """Refreshes a product if it is outdated."""
    data_product.refresh(product.uuid, product._product, variables)
