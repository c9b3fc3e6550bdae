"""Calls of the API as JSON over HTTP, by the standard library alone.

Refuses to know any method: it takes names and documents.
"""
from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any, Dict, Generator, Optional

from orrery import errors

# For one answer; streams may be silent for longer only as long as the server keeps them open.
_ANSWER_TIMEOUT_S = 60.0
_STREAM_TIMEOUT_S = 3600.0
# The largest line of a stream.
_LINE_BYTES_MAX = 64 * 1024 * 1024
# Of a download, read at a time.
_PIECE_BYTES = 1024 * 1024
# Tries of a request while the server is away, and the longest pause between two.
_TRIES_MAX = 6
_PAUSE_MAX_S = 5.0


class Transport:
    """One server and one token."""

    def __init__(self, server: str, token: Optional[str]) -> None:
        if not server.startswith(("http://", "https://")):
            raise errors.InvalidRequest(f"{server!r} is no address of a server; write it as http://host:port")
        self._server = server.rstrip("/")
        self._token = token
        # A token must not follow a redirect to another server, and no proxy of the environment is for the loopback.
        self._opener = urllib.request.build_opener(_NoRedirect)

    def call(self, method: str, message: Dict[str, Any], repeatable: bool = True) -> Dict[str, Any]:
        """One answer. A request that may be repeated is, while the server is away."""
        for attempt in range(1, _TRIES_MAX + 1):
            try:
                with self._open(method, message, _ANSWER_TIMEOUT_S) as response:
                    return dict(json.load(response))
            except (errors.Unavailable, OSError, HTTPException, ValueError) as error:
                if not repeatable or attempt == _TRIES_MAX:
                    raise _away(self._server, error) from error
                time.sleep(min(_PAUSE_MAX_S, 0.1 * 2 ** attempt) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def stream(self, method: str, message: Dict[str, Any]) -> Generator[Dict[str, Any], None, None]:
        """The messages of a stream, one after the other; ends with it."""
        try:
            with self._open(method, message, _STREAM_TIMEOUT_S) as response:
                while True:
                    line = response.readline(_LINE_BYTES_MAX)
                    if not line:
                        return
                    parsed = json.loads(line)
                    if "error" in parsed:
                        raise errors.of(parsed["error"], 200)
                    yield parsed
        except (OSError, HTTPException, ValueError) as error:
            raise _away(self._server, error) from error

    def download(self, path: str, query: Dict[str, str]) -> Any:
        """The open answer of a path, whose body is read by `copy`."""
        target = f"{self._server}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            return self._send(urllib.request.Request(target, headers=self._headers()), _STREAM_TIMEOUT_S)
        except (OSError, HTTPException) as error:
            raise _away(self._server, error) from error

    def copy(self, answer: Any, path: str) -> None:
        """Writes the body of an open answer to a file, a piece at a time. A body that breaks off is an error."""
        announced = int(answer.headers.get("Content-Length") or -1)
        written = 0
        with open(path, "wb") as file:
            while True:
                try:
                    piece = answer.read(_PIECE_BYTES)
                except (OSError, HTTPException) as error:
                    raise _away(self._server, error) from error
                if not piece:
                    break
                written += file.write(piece)
        if written != announced:
            raise errors.Unavailable(f"the download broke off after {written} of {announced} bytes; try again", "unavailable")

    def _headers(self) -> Dict[str, str]:
        headers = {"User-Agent": "orrery-python"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _open(self, method: str, message: Dict[str, Any], timeout: float) -> Any:
        headers = {**self._headers(), "Content-Type": "application/json"}
        return self._send(urllib.request.Request(f"{self._server}/orrery.v1.{method}", json.dumps(message).encode(), headers,
                                                 method="POST"), timeout)

    def _send(self, request: urllib.request.Request, timeout: float) -> Any:
        try:
            return self._opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise errors.of(_document(error), error.code) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_options: Any) -> None:
        """The answer itself is the error."""
        return None


def _document(error: urllib.error.HTTPError) -> Any:
    try:
        return json.load(error)
    except (OSError, HTTPException, ValueError):
        return None


def _away(server: str, error: Exception) -> errors.Error:
    if isinstance(error, errors.Error):
        return error
    reason = getattr(error, "reason", None) or error
    return errors.Unavailable(f"{server} does not answer: {reason}; check that it runs and that the address is right",
                              "unavailable")
