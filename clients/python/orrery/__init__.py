"""The client of an Orrery cluster."""
from orrery.client import Client
from orrery.errors import (AlreadyExists, Denied, Error, Incomplete, InvalidRequest, NotFound, Refused, RunFailed,
                           Unavailable, WaitTimeout)
from orrery.models import BlockRun, LogLine, OutputPreview, Pipeline, Run, Workspace

__all__ = ["AlreadyExists", "BlockRun", "Client", "Denied", "Error", "Incomplete", "InvalidRequest", "LogLine", "NotFound",
           "OutputPreview", "Pipeline", "Refused", "Run", "RunFailed", "Unavailable", "WaitTimeout", "Workspace"]
