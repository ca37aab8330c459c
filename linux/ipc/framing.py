"""Messages between server, supervisor and recorder: JSON behind a length, over SOCK_STREAM.

SOCK_SEQPACKET would bound a message to 212,992 bytes; a command line may have megabytes.
"""

import json
import struct
from collections.abc import Iterator

PROTOCOL = 3
"""Version of the protocol between server and supervisor; 3 added ``forget`` of several jobs."""

OLDEST_PROTOCOL = 1
"""The oldest supported version: without hello, without adoption on request, with a single supervisor."""

LONGEST = 64 << 20
"""Maximum size of a message in bytes; a longer one is not from our processes."""

MOST_DESCRIPTORS = 253
"""Maximum number of descriptors in a message: SCM_MAX_FD of the kernel."""

Message = dict[str, object]
"""A JSON object."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LENGTH = struct.Struct(">I")


class BadMessage(Exception):
    """The peer violates the protocol."""


def encode(message: Message) -> bytes:
    """Return the bytes of a message."""
    body = _encode(message).encode(errors="surrogatepass")  # a path may not be UTF-8
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Splits a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """Yield every message that ``data`` completes; raise BadMessage for an invalid one."""
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
                raise BadMessage("a message that is not an object")
            yield message
