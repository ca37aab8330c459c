"""The client's side of an invitation: makes a key, and exchanges the token for a certificate of it.

The key never leaves this machine. Nothing is sent before the inviter has proved that it has a certificate
of the CA that the token names.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from errno import ECONNREFUSED
from socket import gaierror

from ..api.credentials import Credentials
from ..api.invitation_messages import (
    CONFIRMATION,
    INVITER_NAME,
    LARGEST_REPLY,
    JoinRequest,
    MalformedMessage,
    Refused,
    encode_request,
    framed,
    parse_offer,
    parse_reply,
    read_message,
    secured,
)
from ..api.invitation_token import Token
from ..api.joiner_key import JoinerKey

PATIENCE = 20.0
"""Seconds until the certificate must have arrived."""

_UNUSED = "an invitation ends after its first use, or when its time is over: ask for another one"


class JoinFailed(Exception):
    """There is no certificate; the message says why. ``unreachable``: nothing answers at the address."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


@asynccontextmanager
async def joining(
    host: str, port: int, token: Token, *, patience: float = PATIENCE
) -> AsyncIterator[Credentials]:
    """Yield the credentials that an invitation gives; tell the inviter if the block has stored them.

    ``patience`` is in seconds. Raises JoinFailed.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    key = JoinerKey()
    plain = await _connected(host, port, where, patience)
    async with AsyncExitStack() as connection:
        connection.callback(plain[1].transport.abort)
        try:
            async with asyncio.timeout(patience):
                credentials, reader, writer = await _exchange(*plain, connection, where, token, key)
        except TimeoutError:
            raise JoinFailed(
                f"{where} does not answer as an invitation does; use the line that `worker invite` prints"
            ) from None
        yield credentials
        with suppress(OSError):  # the credentials are stored, whatever the inviter knows
            async with asyncio.timeout(patience):
                writer.write(framed(CONFIRMATION))
                await reader.read(1)  # until the inviter has read it, and ends the connection


async def _connected(
    host: str, port: int, where: str, patience: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(patience):
            return await asyncio.open_connection(host, port)
    except OSError as error:
        reason = f"cannot reach {where}: {_reason(error)}; {_UNUSED}"
        raise JoinFailed(reason, unreachable=True) from None


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connection: AsyncExitStack,
    where: str,
    token: Token,
    key: JoinerKey,
) -> tuple[Credentials, asyncio.StreamReader, asyncio.StreamWriter]:
    """Return what is granted, and what reads and writes over TLS until the connection is closed."""
    try:
        offer = parse_offer(await read_message(reader, LARGEST_REPLY))
        if not token.names(offer.authority):
            raise JoinFailed(
                f"{where} has another CA than the token: either the address is wrong, or somebody is "
                "between; the token was not sent"
            )
        context = _context(offer.authority)
        reader, writer = await connection.enter_async_context(
            secured(writer, context, largest=LARGEST_REPLY, server_hostname=INVITER_NAME)
        )
        request = JoinRequest(token.secret, key.request())
        writer.write(framed(encode_request(request)))
        reply = parse_reply(await read_message(reader, LARGEST_REPLY))
    except asyncio.IncompleteReadError:
        raise JoinFailed(
            f"{where} has closed the connection: it is not the address that `worker invite` has printed, "
            f"or the invitation is over; {_UNUSED}"
        ) from None
    except MalformedMessage as error:
        raise JoinFailed(f"{where} is not an invitation: {error}") from None
    except ssl.SSLCertVerificationError as error:
        raise JoinFailed(
            f"{where} is not the inviter, somebody may be between: {error.verify_message}; the token was "
            "not sent"
        ) from None
    except OSError as error:
        raise JoinFailed(f"the connection to {where} failed: {_reason(error)}; {_UNUSED}") from None
    if isinstance(reply, Refused):
        raise JoinFailed(f"{where} refuses: {reply.reason}")
    try:
        return key.credentials(reply, offer.authority), reader, writer
    except ValueError as error:
        raise JoinFailed(
            f"{where} has sent something else than a certificate for the key of this machine: {error}"
        ) from None


def _context(authority: bytes) -> ssl.SSLContext:
    """Return a context for which only the inviter's certificate is valid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the CA may be an intermediate one
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise MalformedMessage(f"its CA is no certificate: {error}") from None
    return context


def _reason(error: OSError) -> str:
    # With several addresses asyncio joins the errors in one text.
    if error.errno == ECONNREFUSED or f"[Errno {ECONNREFUSED}]" in str(error):
        return "connection refused"
    if isinstance(error, gaierror | ssl.SSLError) or error.errno is None:
        return error.strerror or str(error) or "it does not answer"
    return os.strerror(error.errno)  # asyncio puts the address into its own text
