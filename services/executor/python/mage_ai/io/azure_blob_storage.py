"""AzureBlobStorage: importable, not supported."""
from mage_ai.io.unsupported import UnsupportedSource


class AzureBlobStorage(UnsupportedSource):
    """Says on use which package to take instead."""

    package = "azure-storage-blob"
