"""GoogleCloudStorage: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class GoogleCloudStorage(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "google-cloud-storage"
