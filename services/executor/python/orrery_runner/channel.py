"""The control channel: length-prefixed JSON frames over a stream socket.

Any thread of user code may log or call; one of the threads that wait for a reply reads on behalf of all. It knows
frames, not what they mean.
"""
from __future__ import annotations

import collections
import json
import os
import re
import struct
import threading
from typing import Any, Deque, Dict, Optional

from orrery_runner import jsontext

FRAME_BYTES_MAX = 64 * 1024 * 1024
# Read at once where so much is there: a length, its frame, and often the next one.
_AHEAD_BYTES = 16 * 1024
_LENGTH = struct.Struct(">I")
_to_json = json.JSONEncoder(default=str, allow_nan=False).encode
# What a backslash begins where surrogates are: another backslash, a pair that is one character, or one without the other.
_SURROGATES = re.compile(r"(\\\\|\\ud[89ab]..\\ud[c-f]..)|\\ud[89a-f]..")


class ChannelClosed(Exception):
    """The executor is gone, or this process is a fork of the one that owns the channel."""


class CallFailed(RuntimeError):
    """The executor answered a call with an error."""


def _encode(frame: Dict[str, Any]) -> bytes:
    """A frame as JSON that any program reads. Python's text may hold halves of characters, as names of files do that are not
    UTF-8; these are no text elsewhere."""
    text = _to_json(frame)
    if "\\ud" in text:
        text = _SURROGATES.sub(lambda found: found[1] or "\\ufffd", text)
    return text.encode("ascii")


class Channel:
    """One end of the control channel, safe to use from several threads."""

    def __init__(self, fd: Optional[int] = None) -> None:
        """`fd` is a connected stream socket in blocking mode."""
        self._fd = fd
        self._make_locks()
        self._reading = False
        self._replies: Dict[int, Dict[str, Any]] = {}
        self._abandoned: set = set()
        self._frames: Deque[Optional[Dict[str, Any]]] = collections.deque()
        self._next_call = 0
        self._ahead = bytearray()

    def _make_locks(self) -> None:
        self._send_lock = threading.Lock()
        # Taken directly: the condition's own way in and out is Python, and matters only to those who wait.
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._waiting = 0

    def leave_forks_alone(self) -> None:
        """What this process forks does not get the socket."""
        os.register_at_fork(after_in_child=self._disown)

    def attach(self, fd: int) -> None:
        """Gives a channel that was made in advance its socket."""
        self._fd = fd

    def detach(self) -> None:
        """Closes the socket."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _disown(self) -> None:
        """A process that user code forks must not write into its parent's frames."""
        self._make_locks()
        self.detach()

    @property
    def is_open(self) -> bool:
        """Whether this process owns the channel."""
        return self._fd is not None

    def send(self, frame: Dict[str, Any]) -> None:
        """Writes one frame whole."""
        body = _encode(frame)
        if len(body) > FRAME_BYTES_MAX:
            raise ValueError(f"a control frame of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}")
        with self._send_lock:
            if self._fd is None:
                raise ChannelClosed("the control channel belongs to another process")
            try:
                frame_bytes = _LENGTH.pack(len(body)) + body
                sent = os.write(self._fd, frame_bytes)
                while sent < len(frame_bytes):
                    sent += os.write(self._fd, memoryview(frame_bytes)[sent:])
            except OSError as error:
                raise ChannelClosed(str(error)) from error

    def receive(self) -> Optional[Dict[str, Any]]:
        """The next frame that is no reply; None once the executor has closed the channel."""
        with self._lock:
            while True:
                if self._frames:
                    frame = self._frames.popleft()
                    if frame is None:
                        self._frames.append(None)
                    return frame
                self._pump()

    def call(self, method: str, arguments: Dict[str, Any]) -> Any:
        """Asks the executor and waits for its reply."""
        with self._lock:
            self._next_call += 1
            number = self._next_call
        self.send({"type": "call", "id": number, "method": method, "arguments": arguments})
        with self._lock:
            try:
                while number not in self._replies:
                    if self._frames and self._frames[-1] is None:
                        raise ChannelClosed("the executor closed the control channel")
                    self._pump()
            except BaseException:
                self._abandoned.add(number)
                raise
            reply = self._replies.pop(number)
        if reply.get("error") is not None:
            raise CallFailed(f"{method}: {reply['error']}")
        return reply.get("result")

    def _pump(self) -> None:
        """Reads one frame, or waits until the thread that reads has done so. Holds the lock around."""
        if self._reading:
            self._waiting += 1
            try:
                self._arrived.wait(timeout=1.0)
            finally:
                self._waiting -= 1
            return
        self._reading = True
        self._lock.release()
        frame: Optional[Dict[str, Any]] = None
        try:
            frame = self._read_frame()
        finally:
            self._lock.acquire()
            self._reading = False
            if self._waiting:
                self._arrived.notify_all()
        if frame is None or frame.get("type") != "reply":
            self._frames.append(frame)
        elif frame.get("id") in self._abandoned:
            self._abandoned.discard(frame.get("id"))
        else:
            self._replies[frame.get("id")] = frame

    def _read_frame(self) -> Optional[Dict[str, Any]]:
        header = self._read_exactly(_LENGTH.size)
        if header is None:
            return None
        (length,) = _LENGTH.unpack(header)
        if length > FRAME_BYTES_MAX:
            raise ChannelClosed(f"a control frame announces {length} bytes, over the limit of {FRAME_BYTES_MAX}")
        body = self._read_exactly(length)
        if body is None:
            return None
        try:
            frame = jsontext.parse(str(body, "utf-8"))
        except ValueError as error:
            raise ChannelClosed(f"a control frame is not JSON: {error}") from error
        if not isinstance(frame, dict):
            raise ChannelClosed("a control frame is not a JSON object")
        return frame

    def _read_exactly(self, count: int) -> Optional[bytes]:
        fd = self._fd
        if fd is None:
            return None
        while len(self._ahead) < count:
            try:
                part = os.read(fd, min(max(count - len(self._ahead), _AHEAD_BYTES), 1 << 20))
            except ConnectionError:
                return None
            if not part:
                return None
            self._ahead += part
        found = bytes(self._ahead[:count])
        del self._ahead[:count]
        return found
