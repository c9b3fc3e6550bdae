"""BigQuery: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class BigQuery(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "google-cloud-bigquery"
