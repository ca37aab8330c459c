"""Messages between server, supervisor and recorder: JSON behind a length, over SOCK_STREAM.

SOCK_SEQPACKET would bound a message to 212,992 bytes; a command line may have megabytes.
"""

import json
import struct
from collections.abc import Iterator

PROTOCOL = 2
"""Version of the conversation between server and supervisor."""

OLDEST_PROTOCOL = 1
"""The oldest that is understood. It knew no hello, no adoption on request, and one supervisor."""

LONGEST = 64 << 20
"""Bytes in a message; more is no message of ours."""

MOST_DESCRIPTORS = 253
"""That can go along with a message: SCM_MAX_FD of the kernel."""

Message = dict[str, object]
"""A JSON object."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LENGTH = struct.Struct(">I")


class BadMessage(Exception):
    """The peer does not speak this protocol."""


def encode(message: Message) -> bytes:
    """Return the bytes of a message."""
    body = _encode(message).encode()
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Cuts a stream of bytes into messages, however they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """Yield every message that ``data`` completes; raise BadMessage for what is none."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > LONGEST:
                raise BadMessage(f"a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            try:
                message = json.loads(body)
            except ValueError as error:
                raise BadMessage(str(error)) from None
            if not isinstance(message, dict):
                raise BadMessage("a message that is no object")
            yield message
