"""Where everything begins: a server, and its workspaces."""
from __future__ import annotations

import os
from typing import Iterator, List, Optional, Union

from orrery import errors, models
from orrery.transport import Transport


class Client:
    """A client of one server. It holds no connection open, and may be used by several threads."""

    def __init__(self, server: Optional[str] = None, token: Optional[str] = None,
                 token_file: Optional[Union[str, "os.PathLike[str]"]] = None) -> None:
        """Without arguments: the server `ORRERY_SERVER` with the token in the file `ORRERY_TOKEN_FILE`."""
        server = server or os.environ.get("ORRERY_SERVER") or "http://127.0.0.1:7070"
        if token is None:
            token = _token_in(token_file or os.environ.get("ORRERY_TOKEN_FILE"))
        self._transport = Transport(server, token)

    def create_workspace(self, name: str) -> models.Workspace:
        """A new workspace; `AlreadyExists` when its name is taken anywhere in the cluster."""
        answer = self._transport.call("WorkspaceService/CreateWorkspace", {"name": name, "idempotencyKey": models.new_key()})
        return models.Workspace(self._transport, answer["workspace"])

    def get_workspace(self, name: str, create_if_not_exist: bool = False) -> models.Workspace:
        """The workspace of this name; `NotFound` unless it is to be created."""
        try:
            answer = self._transport.call("WorkspaceService/GetWorkspace", {"name": name})
            return models.Workspace(self._transport, answer["workspace"])
        except errors.NotFound:
            if not create_if_not_exist:
                raise
        try:
            return self.create_workspace(name)
        except errors.AlreadyExists:
            # Somebody else was faster; one that is not ours stays "not found".
            return self.get_workspace(name)

    def list_workspaces(self) -> List[models.Workspace]:
        """All that the caller may see."""
        return list(self._workspaces())

    def _workspaces(self) -> Iterator[models.Workspace]:
        for row in models.pages(self._transport, "WorkspaceService/ListWorkspaces", "workspaces", {}):
            yield models.Workspace(self._transport, row)

    def get_run(self, run_id: str) -> models.Run:
        """The run of this id."""
        return models.Run(self._transport, self._transport.call("RunService/GetRun", {"runId": run_id})["run"])


def _token_in(path: Optional[Union[str, "os.PathLike[str]"]]) -> Optional[str]:
    if not path:
        return None
    path = os.path.expanduser(os.fspath(path))
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split()
    except OSError as error:
        raise errors.Denied(f"the token file {path} cannot be read: {error.strerror}") from None
    if not lines:
        raise errors.Denied(f"the token file {path} is empty")
    return lines[0]
