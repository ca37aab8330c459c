"""A refused handshake: both sides learn the reason in words. Against a real server, with raw TLS."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from worker.api.handshake_failure import handshake_failure
from worker.client.errors import ServerUnreachable

from ..support.authorities import FOR_CLIENTS, FOR_SERVERS, Issued, TestCA, now
from ..support.clients import impatient
from ..support.served import Served, serving

CA = TestCA("the CA")
DAY = timedelta(days=1)
FOR_ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
NOT_FOR_CLIENTS = "its certificate, or that of its CA, is not for clients (extended key usage without"
NOT_TRUSTED = "its certificate was not issued by a CA that this server trusts"


def usage(**used: bool) -> x509.KeyUsage:
    """Return a key usage with these bits."""
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a server."""
    directory = tmp_path_factory.mktemp("handshakes")
    CA.server().write(directory, "server")
    (directory / "ca.crt").write_bytes(CA.issued.pem)
    return directory


CASES: dict[str, tuple[Callable[[], Issued], str, str]] = {
    "expired": (
        lambda: CA.client("x", end=now() - DAY / 2),
        "its certificate, or that of its CA, has expired",
        r"x\.crt expired on \d{4}-\d\d-\d\d; get another one",
    ),
    "not yet valid": (
        lambda: CA.client("x", begin=now() + DAY),
        "its certificate, or that of its CA, is not yet valid",
        r"x\.crt is not valid before \d{4}-",
    ),
    "another CA": (
        lambda: TestCA("another CA").client("x"),
        NOT_TRUSTED,
        r"x\.crt was not issued by a CA that the server trusts; its issuer is 'CN=another CA', which is",
    ),
    "another CA of the same name": (
        lambda: TestCA("the CA").client("x"),
        NOT_TRUSTED,
        r"x\.crt was not signed with the key of a CA that the server trusts; its issuer is 'CN=the CA'; ",
    ),
    "for servers": (
        CA.server,
        NOT_FOR_CLIENTS,
        r"x\.crt is not for clients: its extended key usage does not contain clientAuth;",
    ),
    "for any purpose by its extended key usage": (
        lambda: CA.client(
            "x", purposes=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])]
        ),
        NOT_FOR_CLIENTS,
        r"x\.crt is not for clients: its extended key usage does not contain clientAuth;",
    ),
    "whose key may not sign": (
        lambda: CA.client("x", purposes=[FOR_CLIENTS, usage(key_encipherment=True)]),
        NOT_FOR_CLIENTS,
        r"x\.crt is not for clients: its key usage does not contain digitalSignature;",
    ),
}


@pytest.mark.parametrize(
    "purposes",
    [
        (),
        (usage(digital_signature=True),),
        (usage(key_agreement=True), FOR_CLIENTS),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),),
    ],
)
async def test_a_certificate_that_may_be_used_by_clients(
    pki: Path, tmp_path: Path, purposes: Sequence[x509.ExtensionType]
) -> None:
    """Without extended key usage a certificate is for any purpose (RFC 5280, 4.2.1.12)."""
    context = CA.client("x", purposes=purposes).context(pki / "ca.crt", tmp_path, "x")
    async with serving(pki) as served, impatient(served.host, served.port, context) as client:
        assert await client.health()


async def test_a_ca_that_is_not_for_clients(
    pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The purposes of a CA are those of its certificates; the client is not told that its own is wrong."""
    below = TestCA("below", CA, purposes=[FOR_SERVERS])
    context = below.client("x").context(pki / "ca.crt", tmp_path, "x", below.issued)
    shown = r"x\.crt is not for clients, or that of its CA, says the server; its issuer is 'CN=below';"
    async with serving(pki) as served, impatient(served.host, served.port, context) as client:
        with pytest.raises(ServerUnreachable, match=shown):
            await client.health()
    assert f"127.0.0.1: refused: {NOT_FOR_CLIENTS}" in caplog.text


async def test_separate_cas(tmp_path: Path) -> None:
    """A client of another CA than the server is told the reason, and not to look for its CA in vain."""
    servers = TestCA("servers")
    servers.server().write(tmp_path, "server")
    (tmp_path / "ca.crt").write_bytes(CA.issued.pem)
    (tmp_path / "servers.crt").write_bytes(servers.issued.pem)
    server = CA.server().context(tmp_path / "servers.crt", tmp_path, "s")
    other = TestCA("others").client("o").context(tmp_path / "servers.crt", tmp_path, "o")
    async with serving(tmp_path) as served:
        async with impatient(served.host, served.port, server) as client:
            with pytest.raises(
                ServerUnreachable, match=r"s\.crt is not for clients: its extended key usage"
            ):
                await client.health()
        async with impatient(served.host, served.port, other) as client:
            with pytest.raises(ServerUnreachable, match=r"is not in .*servers\.crt: that is right only if"):
                await client.health()


async def test_a_server_certificate_that_is_not_for_servers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client says that it is unsuitable, and the log of the server that the client has said so."""
    CA.server(purposes=[FOR_CLIENTS]).write(tmp_path, "server")
    (tmp_path / "ca.crt").write_bytes(CA.issued.pem)
    context = CA.client("x").context(tmp_path / "ca.crt", tmp_path, "x")
    async with serving(tmp_path) as served:
        await refused_by_client(served, context, caplog)
        assert "127.0.0.1: refused: the server's certificate is not for servers, it says" in caplog.text
        async with impatient(served.host, served.port, context) as client:
            with pytest.raises(ServerUnreachable, match="its certificate is not accepted: unsuitable cert"):
                await client.health()


@pytest.mark.parametrize("case", CASES)
async def test_a_refused_certificate(
    pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """The log has the address and the reason, the command the reason and its own file."""
    make, logged, shown = CASES[case]
    context = make().context(pki / "ca.crt", tmp_path, "x")
    async with serving(pki) as served, impatient(served.host, served.port, context) as client:
        with pytest.raises(ServerUnreachable, match=f"rejects this client's certificate: .*{shown}"):
            await client.health()
    [line] = [each.getMessage() for each in caplog.records if "refused" in each.getMessage()]
    assert line.startswith(f"127.0.0.1: refused: {logged}")


async def test_a_client_without_a_certificate(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is missing, says the server, and so does the log."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # of Python 3.13, not strict
    context.load_verify_locations(pki / "ca.crt")
    context.set_alpn_protocols(["h2"])
    async with serving(pki) as served, impatient(served.host, served.port, context) as client:
        with pytest.raises(
            ServerUnreachable, match=r"rejects this client's certificate: missing; get another one"
        ):
            await client.health()
    assert "127.0.0.1: refused: it has sent no certificate" in caplog.text


async def refused_by_client(
    served: Served, context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Connect as a client that refuses the server's certificate and sends its alert; wait for the log."""

    def connect() -> None:
        plain = socket.create_connection((served.host, served.port))
        with plain, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(plain, server_hostname="localhost")

    await asyncio.to_thread(connect)
    async with asyncio.timeout(60):
        while "refused" not in caplog.text:
            await asyncio.sleep(0.01)


async def test_a_client_that_does_not_trust_the_server(
    pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that it was the client who refused."""
    (tmp_path / "other.crt").write_bytes(TestCA("x").issued.pem)
    context = CA.client("x").context(tmp_path / "other.crt", tmp_path, "x")
    async with serving(pki) as served:
        await refused_by_client(served, context, caplog)
    assert "127.0.0.1: refused: it does not trust the CA of the server's certificate" in caplog.text


async def test_an_old_version_of_tls(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TLS 1.2 is refused before any certificate is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pki / "ca.crt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(pki) as served:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await asyncio.open_connection(served.host, served.port, ssl=context)
    assert "127.0.0.1: refused: it does not speak TLS 1.3" in caplog.text


async def test_a_flood_of_refusals_does_not_flood_the_log(
    pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can cause these lines: after a burst they are counted."""
    async with serving(pki) as served:
        for _ in range(80):
            reader, writer = await asyncio.open_connection(served.host, served.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
    lines = [each.getMessage() for each in caplog.records if "refused" in each.getMessage()]
    assert 50 <= len(lines) < 80


def test_an_unknown_reason_is_shown_as_it_is() -> None:
    """Nothing is hidden because it has no words here."""
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = 24, "invalid CA certificate"
    assert "its certificate is not accepted: invalid CA certificate" == handshake_failure(error)
    assert "the TLS handshake failed: x" == handshake_failure(ValueError("x"))
