"""`worker join` toward inviters of any kind: the token goes only to one with the CA of the token."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from worker.api.authority import KeyType, for_server, load_authority, new_key
from worker.api.certificate_files import write_certificate, write_key
from worker.api.certificates import signing_request
from worker.api.invitation_messages import (
    INVITER_NAME,
    LARGEST_REPLY,
    Granted,
    Offer,
    Refused,
    encode_offer,
    encode_reply,
    framed,
    read_message,
)
from worker.api.invitation_token import Token, new_token
from worker.api.tls import pem_certificates
from worker.client.joining import JoinFailed, joining

from ..support.authorities import TestCA


@dataclass
class Impostor:
    """Something that listens; ``received`` is what it has got after its offer, decrypted if it could."""

    port: int = 0
    received: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def impostor(
    offer: bytes, own: tuple[Path, Path] | None = None, reply: bytes = b""
) -> AsyncIterator[Impostor]:
    """Yield what sends this offer, and then a reply over TLS with an own certificate and key."""
    found = Impostor()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(offer)
        try:
            if own is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*own)
                await writer.start_tls(context)
                found.received += await read_message(reader, LARGEST_REPLY)
                writer.write(reply)
                await writer.drain()
            found.received += await reader.read()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    await server.wait_closed()


def ca_of(directory: Path) -> bytes:
    """Return the certificate of a CA in DER."""
    return pem_certificates(directory / "ca.crt")[0]


async def refusal(port: int, token: Token, patience: float = 60) -> str:
    """Return why a joiner does not join."""
    with pytest.raises(JoinFailed) as caught:
        async with joining("127.0.0.1", port, token, patience=patience):
            raise AssertionError("it has joined")
    return str(caught.value)


async def test_an_inviter_of_another_ca_gets_nothing(pki: Path) -> None:
    """The joiner sends not a byte, not even a TLS hello."""
    other = framed(encode_offer(Offer(TestCA("other CA").issued.der)))
    async with impostor(other) as inviter:
        reason = await refusal(inviter.port, new_token(ca_of(pki)))
        assert "has another CA than the token" in reason
        assert b"" == inviter.received


@pytest.mark.parametrize("own", ["server", "writer"])
async def test_others_of_the_ca_are_not_the_inviter(pki: Path, own: str) -> None:
    """Neither a server nor a client of the CA can get the token, which would let it join."""
    offer = framed(encode_offer(Offer(ca_of(pki))))
    async with impostor(offer, (pki / f"{own}.crt", pki / f"{own}.key")) as inviter:
        reason = await refusal(inviter.port, new_token(ca_of(pki)))
        assert "is not the inviter, somebody may be between" in reason
        assert b"" == inviter.received


async def test_a_certificate_of_another_key_is_not_accepted(pki: Path, tmp_path: Path) -> None:
    """Also if the CA has issued it."""
    own = inviter_certificate(pki, tmp_path)
    granted = Granted((pki / "writer.crt").read_bytes(), ["127.0.0.1:1"])
    offer = framed(encode_offer(Offer(ca_of(pki))))
    async with impostor(offer, own, framed(encode_reply(granted))) as inviter:
        reason = await refusal(inviter.port, new_token(ca_of(pki)))
        assert "something else than a certificate for the key of this machine" in reason


def inviter_certificate(pki: Path, directory: Path) -> tuple[Path, Path]:
    """Return certificate and key of an inviter."""
    key = new_key(KeyType.P256)
    names = x509.SubjectAlternativeName([x509.DNSName(INVITER_NAME)])
    certificate = load_authority(pki).sign("invitation", key.public_key(), [for_server(), names], days=1)
    write_certificate(directory / "crt", certificate)
    write_key(directory / "key", key)
    return directory / "crt", directory / "key"


@pytest.mark.parametrize("granted", [b"", b"none", b"csr"])
async def test_a_reply_that_is_no_certificate(pki: Path, tmp_path: Path, granted: bytes) -> None:
    """It is an error in words."""
    text = signing_request("x", new_key(KeyType.P256)) if granted == b"csr" else granted
    reply = framed(encode_reply(Granted(text, [])))
    offer = framed(encode_offer(Offer(ca_of(pki))))
    async with impostor(offer, inviter_certificate(pki, tmp_path), reply) as inviter:
        reason = await refusal(inviter.port, new_token(ca_of(pki)))
        assert "something else than a certificate for the key of this machine" in reason


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not an invitation: a message of"),
        (framed(b"hello"), "is not an invitation: a message that is not JSON"),
        (framed(b'{"worker_invitation": 2}'), "an invitation of version 2; this version knows 1"),
        (b"\xff" * 100, "is not an invitation: a message of 4294967295 bytes"),
    ],
)
async def test_something_else_listens(pki: Path, offer: bytes, reason: str) -> None:
    """It is an error in words, and nothing is sent."""
    async with impostor(offer) as inviter:
        assert reason in await refusal(inviter.port, new_token(ca_of(pki)))
        assert b"" == inviter.received


async def test_a_listener_that_says_nothing(pki: Path) -> None:
    """A server of gRPC waits for the client: the joiner gives up, and names what to use."""
    async with impostor(b"") as inviter:
        reason = await refusal(inviter.port, new_token(ca_of(pki)), patience=0.2)
        assert "does not answer as an invitation does" in reason


async def test_an_offer_that_is_no_certificate(pki: Path) -> None:
    """Its digest may be that of the token."""
    async with impostor(framed(encode_offer(Offer(b"garbage")))) as inviter:
        assert "its CA is no certificate" in await refusal(inviter.port, new_token(b"garbage"))


async def test_what_precedes_tls_is_no_reply(pki: Path, tmp_path: Path) -> None:
    """One in the middle adds a refusal to the offer, before TLS; the joiner gets that of the inviter."""
    own = inviter_certificate(pki, tmp_path)
    before, after = (framed(encode_reply(Refused(reason))) for reason in ("forged", "genuine"))
    offer = framed(encode_offer(Offer(ca_of(pki)))) + before
    async with impostor(offer, own, after) as found:
        assert "genuine" in await refusal(found.port, new_token(ca_of(pki)))
