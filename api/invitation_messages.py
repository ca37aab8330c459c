"""The messages between `worker invite` and `worker join`, which are JSON objects after their length.

1. The inviter sends an Offer in the clear: the certificate of its CA. The joiner compares it with the
   digest in its token; if it differs, the joiner sends nothing.
2. TLS 1.3. The inviter has a certificate of that CA for INVITER_NAME, which is no name of any host, so
   that neither a client nor a server of the CA can pretend to be the inviter.
3. The joiner sends a JoinRequest, and the inviter replies with Granted or Refused.
4. After Granted the joiner stores the certificate, and sends CONFIRMATION.
"""

import asyncio
import binascii
import json
import os
import ssl
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from errno import ECONNABORTED

INVITER_NAME = "invitation.worker.invalid"
"""The name in the inviter's certificate. No host has it (RFC 6761, section 6.4)."""

LARGEST_REQUEST = 16 << 10
LARGEST_REPLY = 64 << 10

CONFIRMATION = b'{"stored": true}'

_VERSION = 1
_LENGTH = struct.Struct("!I")


class MalformedMessage(Exception):
    """The peer does not keep to the protocol; the message says how."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the inviter sends first: the certificate of its CA in DER."""

    authority: bytes


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What the joiner asks for: ``request`` is a certificate signing request in PEM format."""

    secret: bytes = field(repr=False)
    request: bytes


@dataclass(frozen=True, slots=True)
class Granted:
    """The certificate in PEM format, and the addresses of the servers for it."""

    certificate: bytes
    servers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no certificate."""

    reason: str


def framed(message: bytes) -> bytes:
    """Return a message after its length."""
    return _LENGTH.pack(len(message)) + message


async def read_message(reader: asyncio.StreamReader, largest: int) -> bytes:
    """Return the next message; raise MalformedMessage, IncompleteReadError or OSError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > largest:
        raise MalformedMessage(f"a message of {length} bytes; the largest has {largest}")
    return await reader.readexactly(length)


@asynccontextmanager
async def secured(
    writer: asyncio.StreamWriter,
    context: ssl.SSLContext,
    *,
    largest: int,
    server_hostname: str | None = None,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield what reads and writes over TLS; without the name of a server, this is the server.

    Data that arrived before the TLS handshake is discarded: a machine in the middle may have sent it, and
    the ``start_tls`` of a StreamWriter leaves it in the buffer of the reader. Raises OSError.
    """
    await writer.drain()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(largest)
    protocol = asyncio.StreamReaderProtocol(reader)
    server_side = server_hostname is None
    transport = await loop.start_tls(
        writer.transport, protocol, context, server_side=server_side, server_hostname=server_hostname
    )
    if transport is None:
        raise ConnectionAbortedError(ECONNABORTED, os.strerror(ECONNABORTED))
    protocol.connection_made(transport)
    try:
        yield reader, asyncio.StreamWriter(transport, protocol, reader, loop)
    finally:
        transport.abort()


def encode_offer(offer: Offer) -> bytes:
    """Return the message."""
    return _encoded({"worker_invitation": _VERSION, "ca": b64encode(offer.authority).decode()})


def parse_offer(message: bytes) -> Offer:
    """Return what the message contains; raise MalformedMessage."""
    found = _parsed(message)
    version = found.get("worker_invitation")
    if version != _VERSION:
        raise MalformedMessage(f"an invitation of version {version!r}; this version knows {_VERSION}")
    return Offer(_bytes(found, "ca"))


def encode_request(request: JoinRequest) -> bytes:
    """Return the message."""
    return _encoded({"secret": b64encode(request.secret).decode(), "request": request.request.decode()})


def parse_request(message: bytes) -> JoinRequest:
    """Return what the message contains; raise MalformedMessage."""
    found = _parsed(message)
    return JoinRequest(_bytes(found, "secret"), _text(found, "request").encode())


def encode_reply(reply: Granted | Refused) -> bytes:
    """Return the message."""
    if isinstance(reply, Refused):
        return _encoded({"refused": reply.reason})
    return _encoded({"certificate": reply.certificate.decode(), "servers": list(reply.servers)})


def parse_reply(message: bytes) -> Granted | Refused:
    """Return what the message contains; raise MalformedMessage."""
    found = _parsed(message)
    if "refused" in found:
        return Refused(_text(found, "refused"))
    servers = found.get("servers")
    if not isinstance(servers, list) or not all(isinstance(each, str) for each in servers):
        raise MalformedMessage("'servers' is not a list of texts")
    return Granted(_text(found, "certificate").encode(), tuple(servers))


def _encoded(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode()


def _parsed(message: bytes) -> dict[str, object]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise MalformedMessage("a message that is not JSON") from None
    if not isinstance(found, dict):
        raise MalformedMessage("a message that is not a JSON object")
    return found


def _text(message: dict[str, object], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value.isascii():
        raise MalformedMessage(f"{key!r} is not an ASCII text")
    return value


def _bytes(message: dict[str, object], key: str) -> bytes:
    try:
        return b64decode(_text(message, key), validate=True)
    except binascii.Error:
        raise MalformedMessage(f"{key!r} is not in base64") from None
