"""Why a request was not answered as wished. Knows the API's codes, and nothing of what was asked."""
from __future__ import annotations

from typing import Any, Dict


class Error(Exception):
    """Any failure. `code` and `reason` are for programs, the text is for people."""

    def __init__(self, message: str, code: str = "unknown", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class InvalidRequest(Error):
    """The request is malformed; repeating it changes nothing."""


class NotFound(Error):
    """The named thing does not exist, or is not the caller's to see."""


class AlreadyExists(Error):
    """The name or the key is taken."""


class Refused(Error):
    """The thing exists, but is in a state that forbids this."""


class Denied(Error):
    """No token, or one that does not allow this."""


class Unavailable(Error):
    """A server or a service is away, or a limit is reached; try again."""


class WaitTimeout(Error):
    """The run has not ended in time; it goes on."""


class RunFailed(Error):
    """The run ended, but it did not complete."""


class Incomplete(Error):
    """The whole value cannot be had here."""


_KINDS = {
    "invalid_argument": InvalidRequest, "out_of_range": InvalidRequest, "not_found": NotFound,
    "already_exists": AlreadyExists, "failed_precondition": Refused, "aborted": Refused, "permission_denied": Denied,
    "unauthenticated": Denied, "unavailable": Unavailable, "deadline_exceeded": Unavailable,
    "resource_exhausted": Unavailable,
}


def of(document: Any, status: int) -> Error:
    """The error that an answer of the API tells."""
    if not isinstance(document, dict) or "code" not in document:
        kind = Unavailable if status in (429, 502, 503, 504) else Denied if status in (401, 403) else Error
        return kind(f"the server answered with HTTP status {status} and no reason; check its address", "unknown")
    code = str(document["code"])
    return _KINDS.get(code, Error)(str(document.get("message") or code), code, _reason(document))


def _reason(document: Dict[str, Any]) -> str:
    for detail in document.get("details") or []:
        debug = detail.get("debug") if isinstance(detail, dict) else None
        if isinstance(debug, dict) and debug.get("reason"):
            return str(debug["reason"])
    return ""
