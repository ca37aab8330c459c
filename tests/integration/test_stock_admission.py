"""Which stock clients can connect, and which of them may make calls: certificates, roles and TLS."""

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from worker.api import certificates
from worker.api.ca_key_path import key_path
from worker.api.roles import ROLES_OID

from ..support.stock import (
    NOWHERE,
    PATIENCE,
    Stock,
    error_of,
)


def issue(pki: Path, out: Path, name: str, *extensions: x509.ExtensionType, days: int = 1) -> Path:
    """Sign a certificate with any content by the CA of ``pki``, and return its directory."""
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    signer = load_pem_private_key(key_path(pki).read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    end = datetime.now(UTC) + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=30))
        .not_valid_after(end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    (out / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (out / f"{name}.key").write_bytes(secret)
    return out


def query(stock: Stock, name: str | None, pki: Path | None) -> tuple[grpc.StatusCode, str]:
    """Return the status of a client's query for an unknown job."""
    with stock.channel(name, pki) as channel:
        request = stock.messages.QueryRequest(jobID=NOWHERE)
        return error_of(lambda: stock.stub(channel).Query(request, timeout=PATIENCE))


def roles(value: bytes) -> list[x509.ExtensionType]:
    """Return the extension for roles with this value."""
    return [x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), value)]


def test_certificates_made_here_are_accepted(stock: Stock, tmp_path: Path) -> None:
    """Those of the next tests are rejected for their one fault, not for the way they are made."""
    issue(stock.pki, tmp_path, "ann", *roles(b"\x0c\x06reader"))
    assert grpc.StatusCode.NOT_FOUND == query(stock, "ann", tmp_path)[0]


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        roles(b"\x0c\x05admin"),
        roles(b"\x0c\x0creader,admin"),
        roles(b"\x0c\x00"),
        roles(b"reader"),
        roles(b"\x0c\x07reader"),
        roles(b"\x0c\x80reader\0\0"),
        roles(b"\x0c\x06reader\0"),
        roles(b"\x13\x06reader"),
        roles(b""),
    ],
    ids=[
        "no role",
        "unknown role",
        "unknown role beside a known one",
        "empty list",
        "not DER",
        "cut short",
        "indefinite length",
        "trailing bytes",
        "another type",
        "empty extension",
    ],
)
def test_a_client_without_a_proper_role(
    stock: Stock, tmp_path: Path, extensions: Sequence[x509.ExtensionType]
) -> None:
    """It can connect, and every call is denied."""
    issue(stock.pki, tmp_path, "ann", *extensions)
    assert grpc.StatusCode.PERMISSION_DENIED == query(stock, "ann", tmp_path)[0]


def test_a_client_without_a_certificate(stock: Stock) -> None:
    """It cannot connect."""
    assert grpc.StatusCode.UNAVAILABLE == query(stock, None, None)[0]


def test_a_certificate_of_another_ca(stock: Stock, tmp_path: Path) -> None:
    """It cannot connect, although its role is writer."""
    certificates.init(tmp_path / "pki", key_type=certificates.KeyType.P256)
    assert grpc.StatusCode.UNAVAILABLE == query(stock, "writer", tmp_path / "pki")[0]


def test_an_expired_certificate(stock: Stock, tmp_path: Path) -> None:
    """It cannot connect."""
    issue(stock.pki, tmp_path, "ann", *roles(b"\x0c\x06writer"), days=-1)
    assert grpc.StatusCode.UNAVAILABLE == query(stock, "ann", tmp_path)[0]


def test_the_certificate_of_a_server(stock: Stock) -> None:
    """It is for another purpose, so it cannot connect."""
    assert grpc.StatusCode.UNAVAILABLE == query(stock, "server", None)[0]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_3_only(stock: Stock, version: ssl.TLSVersion) -> None:
    """A client that supports only TLS 1.2 cannot connect, even with a valid certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(stock.pki / "ca.crt")
    context.load_cert_chain(stock.pki / "writer.crt", stock.pki / "writer.key")
    context.maximum_version = version
    host, port = stock.target.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as plain:
        if version is ssl.TLSVersion.TLSv1_3:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                assert "TLSv1.3" == secure.version()
        else:
            # asyncio closes without an alert.
            with pytest.raises(OSError, match=r"PROTOCOL_VERSION|EOF|reset"):
                context.wrap_socket(plain, server_hostname=host)


def test_plain_text(stock: Stock) -> None:
    """A client without TLS cannot connect."""
    with grpc.insecure_channel(stock.target) as channel:
        call = stock.stub(channel).Query
        code, _ = error_of(lambda: call(stock.messages.QueryRequest(jobID=NOWHERE), timeout=PATIENCE))
    assert grpc.StatusCode.UNAVAILABLE == code
