"""ClickHouse: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class ClickHouse(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "clickhouse-connect"
