"""`worker invite` and `worker join` over a network with peers of any kind: exactly one certificate."""

import asyncio
import socket
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from worker.api.authority import KeyType, new_key, server_names
from worker.api.certificates import signing_request
from worker.api.identity import read_certificate
from worker.api.invitation import WRONG_TOKENS
from worker.api.invitation_messages import (
    CONFIRMATION,
    LARGEST_REQUEST,
    Granted,
    Refused,
    framed,
)
from worker.api.inviting import InvitationEnded
from worker.api.roles import ROLES_OID, Role, encode_roles
from worker.client.joining import JoinFailed, joining

from ..support.inviting import SERVERS, TTL, inviting, own_copy

WRONG = bytes(16)


@pytest.fixture
def directory(pki: Path, tmp_path: Path) -> Path:
    """Certificates with the key of their CA, for one test."""
    return own_copy(pki, tmp_path)


async def test_a_joiner_gets_what_the_inviter_has_determined(directory: Path) -> None:
    """Name, role and validity are those of the invitation; the key stays with the joiner."""
    async with inviting(directory) as host:
        found = await host.join()
        joined = await host.outcome
    assert (True, directory / "alice.crt") == (joined.confirmed, joined.certificate)
    assert joined.certificate.read_bytes() == found.certificate
    assert ("alice", SERVERS) == (found.name, tuple(found.servers))
    assert (directory / "ca.crt").read_bytes() == found.ca
    certificate = x509.load_pem_x509_certificate(found.certificate)
    assert load_pem_private_key(found.key, None).public_key() == certificate.public_key()
    identity = read_certificate(certificate.public_bytes(Encoding.DER)).identity
    assert ("alice", {Role.READER}) == (identity.name, identity.roles)
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=7) <= validity < timedelta(days=7, hours=1)
    assert not (directory / "alice.key").exists()


async def test_only_the_key_of_the_request_counts(directory: Path) -> None:
    """A request for another name, the role writer, a server or a CA changes nothing in the certificate."""
    key = new_key(KeyType.P256)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(server_names(["worker.example"]), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), encode_roles([Role.WRITER])),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    async with inviting(directory) as host:
        peer = await (await host.connect()).secure()
        reply = await peer.ask(host.invitation.token.secret, request.public_bytes(Encoding.PEM))
        peer.close()
    assert isinstance(reply, Granted)
    certificate = x509.load_pem_x509_certificate(reply.certificate)
    assert key.public_key() == certificate.public_key()
    identity = read_certificate(certificate.public_bytes(Encoding.DER)).identity
    assert ("alice", {Role.READER}) == (identity.name, identity.roles)
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(usage)
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)


async def test_wrong_tokens_end_the_invitation(directory: Path) -> None:
    """After five of them the right one is of no use, and the inviter ends."""
    async with inviting(directory) as host:
        late = await (await host.connect()).secure()
        for _ in range(WRONG_TOKENS):
            peer = await (await host.connect()).secure()
            assert Refused("the token is wrong") == await peer.ask(WRONG)
            assert await peer.ended()
        reply = await late.ask(host.invitation.token.secret)
        assert isinstance(reply, Refused)
        assert "too many wrong tokens" in reply.reason
        late.close()
        with pytest.raises(InvitationEnded, match="too many wrong tokens"):
            await host.outcome
        assert [] == host.issued


async def test_fewer_wrong_tokens_change_nothing(directory: Path) -> None:
    """The right one is valid after them."""
    async with inviting(directory) as host:
        for _ in range(WRONG_TOKENS - 1):
            peer = await (await host.connect()).secure()
            assert Refused("the token is wrong") == await peer.ask(WRONG)
            peer.close()
        await host.join()
        assert (await host.outcome).confirmed
        assert WRONG_TOKENS - 1 == sum("the token is wrong" in each for each in host.reports)


async def test_a_token_is_valid_once(directory: Path) -> None:
    """The second use is refused, while the first one is not complete and after that."""
    async with inviting(directory) as host:
        first = await (await host.connect()).secure()
        assert isinstance(await first.ask(host.invitation.token.secret), Granted)
        with pytest.raises(JoinFailed, match="the token was used before; it is valid once"):
            await host.join()
        first.send(framed(CONFIRMATION))
        assert (await host.outcome).confirmed
        first.close()
        with pytest.raises(JoinFailed, match="the token was used before; it is valid once"):
            await host.join()
        assert 1 == len(host.issued)


async def test_two_joiners_at_once(directory: Path) -> None:
    """Exactly one gets the certificate, the other one learns why not."""
    async with inviting(directory) as host:
        found = await asyncio.gather(host.join(), host.join(), return_exceptions=True)
        failed = [each for each in found if isinstance(each, BaseException)]
        assert ["JoinFailed"] == [type(each).__name__ for each in failed]
        assert 1 == len(host.issued)


async def test_a_key_that_cannot_be_signed_does_not_use_up_the_token(directory: Path) -> None:
    """The reason is told; the token is still valid."""
    weak = signing_request("joiner", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    async with inviting(directory) as host:
        for request, reason in ((weak, "neither RSA of 2048 bits"), (b"none", "cannot be read")):
            peer = await (await host.connect()).secure()
            reply = await peer.ask(host.invitation.token.secret, request)
            assert isinstance(reply, Refused)
            assert reason in reply.reason
            peer.close()
        await host.join()


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" + bytes(600), bytes(100_000)],
    ids=["nothing", "a byte", "HTTP", "no hello", "much"],
)
async def test_garbage_instead_of_tls(directory: Path, data: bytes) -> None:
    """The connection ends, and the right joiner is served."""
    async with inviting(directory, patience=0.5 if len(data) < 2 else 60) as host:
        peer = await host.connect()
        peer.send(data)
        await peer.ended()
        await host.join()


@pytest.mark.parametrize(
    "data",
    [
        framed(b""),
        framed(b"[]"),
        framed(b'{"secret": 1}'),
        framed(b'{"secret": "*", "request": ""}'),
        framed(b"[" * 10_000),
        (LARGEST_REQUEST + 1).to_bytes(4),
        b"\xff\xff\xff\xff" + bytes(200_000),
    ],
    ids=["empty", "list", "number", "no base64", "deep", "too long", "much"],
)
async def test_garbage_instead_of_a_request(directory: Path, data: bytes) -> None:
    """The connection ends without an answer, and the right joiner is served."""
    async with inviting(directory) as host:
        peer = await (await host.connect()).secure()
        peer.send(data)
        assert await peer.ended()
        assert 1 == len(host.reports)
        assert 0 == host.invitation.wrong_tokens
        await host.join()


@pytest.mark.parametrize("moment", ["offer", "tls", "half a request"])
async def test_a_peer_that_is_too_slow(directory: Path, moment: str) -> None:
    """Its connection ends wherever it waits, and the right joiner is served."""
    async with inviting(directory, patience=0.5) as host:
        peer = await host.connect()
        if moment != "offer":
            await peer.secure()
        if moment == "half a request":
            peer.send(framed(bytes(1000))[:500])
        assert await peer.ended()
        assert "it took too long" in host.reports[0]
        await host.join()


async def test_silent_peers_do_not_block_the_right_one(directory: Path) -> None:
    """Above the bound the oldest of the address with the most connections ends, no other."""
    async with inviting(directory, most_connections=4) as host:
        right = await host.connect("127.0.0.1")
        with ExitStack() as silent:  # they are accepted all at once
            sockets = [silent.enter_context(host.socket("127.0.0.2")) for _ in range(20)]
            for each in sockets[:-3]:
                assert await ended(each)
            await right.secure()
            assert isinstance(await right.ask(host.invitation.token.secret), Granted)
            more = [silent.enter_context(host.socket("127.0.0.1")) for _ in range(20)]
            for each in more[:-4]:
                assert await ended(each)
            right.send(framed(CONFIRMATION))
            assert (await host.outcome).confirmed
        right.close()


async def ended(connection: socket.socket) -> bool:
    """Wait until the inviter has ended a connection of which nothing was read."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(connection, 1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("moment", ["connected", "offer", "tls"])
async def test_a_peer_that_disconnects_in_the_middle(directory: Path, moment: str) -> None:
    """The right joiner is served after it."""
    async with inviting(directory) as host:
        if moment == "connected":
            _, writer = await asyncio.open_connection("127.0.0.1", host.port)
            writer.transport.abort()
        else:
            peer = await host.connect()
            if moment == "tls":
                await peer.secure()
            peer.close()
        await host.join()


async def test_a_joiner_that_does_not_confirm(directory: Path) -> None:
    """The inviter knows that the certificate was issued, and perhaps not stored."""
    async with inviting(directory) as host:
        peer = await (await host.connect()).secure()
        assert isinstance(await peer.ask(host.invitation.token.secret), Granted)
        peer.close()
        joined = await host.outcome
        assert (False, [joined.certificate]) == (joined.confirmed, host.issued)


async def test_a_joiner_that_cannot_store_the_certificate(directory: Path) -> None:
    """It does not confirm."""
    async with inviting(directory) as host:
        with pytest.raises(OSError, match="No space left"):
            async with joining("127.0.0.1", host.port, host.invitation.token):
                raise OSError(28, "No space left on device")
        assert not (await host.outcome).confirmed


async def test_the_invitation_ends_in_time(directory: Path) -> None:
    """Until then it is valid; after that no connection is left."""
    async with inviting(directory) as host:
        peer = await (await host.connect()).secure()
        await host.clock.advance(TTL - 1)
        assert not host.outcome.done()
        await host.clock.advance(1)
        with pytest.raises(InvitationEnded, match="nobody has joined in time"):
            await host.outcome
        await host.inviter.close()
        assert await peer.ended()
        with pytest.raises(JoinFailed, match="connection refused; an invitation ends after its first use"):
            await host.join()
        assert [] == host.issued


async def test_the_time_ends_while_a_joiner_stores_its_certificate(directory: Path) -> None:
    """It may confirm."""
    async with inviting(directory) as host:
        peer = await (await host.connect()).secure()
        assert isinstance(await peer.ask(host.invitation.token.secret), Granted)
        await host.clock.advance(TTL)
        peer.send(framed(CONFIRMATION))
        assert (await host.outcome).confirmed
        peer.close()
