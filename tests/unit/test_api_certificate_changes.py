"""Requests for certificates, renewal and revocation."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_IMODE

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from worker.api import certificates
from worker.api.certificate_files import (
    CertificateError,
    CertificateExists,
)
from worker.api.certificates import KeyType
from worker.api.identity import read_certificate
from worker.api.revoking import revoke, write_crl
from worker.api.roles import Role

from ..support.certificate_sets import handshake, init, load, strict


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a test creates a set of its own."""
    return tmp_path / "pki"


def test_a_request_becomes_a_certificate(directory: Path, tmp_path: Path) -> None:
    """The key stays where the request was made; name, roles and days are those of the issuer."""
    init(directory)
    client = tmp_path / "client" / "pki"
    csr = certificates.request(client, "mallory", key_type=KeyType.P256)
    assert {"mallory.csr": 0o644, "mallory.key": 0o600} == {
        path.name: S_IMODE(path.stat().st_mode) for path in client.iterdir()
    }
    path = certificates.issue(directory, "ann", [Role.READER], request=csr.read_bytes(), days=7)
    assert not path.with_suffix(".key").exists()
    identity = read_certificate(ssl.PEM_cert_to_DER_cert(path.read_text())).identity
    assert ("ann", {Role.READER}) == (identity.name, identity.roles)
    (client / "mallory.crt").write_bytes(path.read_bytes())
    (client / "ca.crt").write_bytes((directory / "ca.crt").read_bytes())
    handshake(
        strict(ssl.PROTOCOL_TLS_SERVER, directory, "server"),
        strict(ssl.PROTOCOL_TLS_CLIENT, client, "mallory"),
        "localhost",
    )


def test_a_request_overwrites_nothing(directory: Path) -> None:
    """Neither a key nor a certificate."""
    certificates.request(directory, "ann", key_type=KeyType.P256)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(CertificateExists, match=r"ann\.csr"):
        certificates.request(directory, "ann", key_type=KeyType.P256)
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Return a request for this key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def forged() -> bytes:
    """Return a request whose signature is not that of its key."""
    good = csr(ec.generate_private_key(ec.SECP256R1()))
    other = csr(ec.generate_private_key(ec.SECP256R1()))
    first, second = (x509.load_pem_x509_csr(each) for each in (good, other))
    der = first.public_bytes(Encoding.DER)
    forged = der.replace(first.tbs_certrequest_bytes, second.tbs_certrequest_bytes)
    return ssl.DER_cert_to_PEM_cert(forged).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()


@pytest.mark.parametrize(
    ("request_of", "message"),
    [
        (lambda: b"nonsense", "cannot be read"),
        (forged, "not signed with its own key"),
        (lambda: csr(rsa.generate_private_key(65537, 1024)), "neither RSA of 2048 bits nor P-256"),
        (lambda: csr(ed25519.Ed25519PrivateKey.generate()), "neither RSA of 2048 bits nor P-256"),
    ],
    ids=["nonsense", "forged", "short key", "another kind of key"],
)
def test_a_request_that_cannot_be_used(
    directory: Path, request_of: Callable[[], bytes], message: str
) -> None:
    """It is rejected, and nothing is issued."""
    init(directory)
    before = sorted(directory.iterdir())
    with pytest.raises(CertificateError, match=message):
        certificates.issue(directory, "ann", [Role.READER], request=request_of())
    assert before == sorted(directory.iterdir())


@pytest.mark.parametrize("name", ["server", "writer", "ca"])
def test_renewal_changes_dates_and_serial_only(directory: Path, name: str) -> None:
    """Key, names, issuer and extensions stay, so that everything that worked with it still works."""
    init(directory, hosts=["worker.example"])
    before = load(directory / f"{name}.crt")
    assert directory / f"{name}.crt" == certificates.renew(directory, name, days=20)
    after = load(directory / f"{name}.crt")
    assert before.serial_number != after.serial_number
    assert datetime.now(UTC) + timedelta(days=19) < after.not_valid_after_utc
    assert after.not_valid_after_utc <= datetime.now(UTC) + timedelta(days=20)
    for part in (
        lambda each: each.public_key(),
        lambda each: each.subject,
        lambda each: each.issuer,
        lambda each: list(each.extensions),
    ):
        assert part(before) == part(after)
    assert 0o644 == S_IMODE((directory / f"{name}.crt").stat().st_mode)
    handshake(
        strict(ssl.PROTOCOL_TLS_SERVER, directory, "server"),
        strict(ssl.PROTOCOL_TLS_CLIENT, directory, "writer"),
        "worker.example",
    )


def test_what_cannot_be_renewed(directory: Path, tmp_path: Path) -> None:
    """A certificate that is missing, of another CA, or denied; the error says which, nothing changes."""
    init(directory)
    init(tmp_path / "other" / "pki")
    (directory / "foreign.crt").write_bytes((tmp_path / "other" / "pki" / "writer.crt").read_bytes())
    revoke(directory, [(load(directory / "reader.crt").serial_number, "reader")])
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for name, message in (
        ("nobody", "there is no certificate"),
        ("foreign", "was not issued by the CA"),
        ("reader", "is denied"),
    ):
        with pytest.raises(CertificateError, match=message):
            certificates.renew(directory, name)
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}


def test_revocation_is_added_to_the_list_and_to_the_crl(directory: Path) -> None:
    """Comments and earlier entries stay; the CRL is written only if there is one, or when asked."""
    init(directory)
    (directory / "denied").write_text("0a # long ago")
    assert [directory / "denied"] == revoke(directory, [(11, "ann")])
    assert [] == revoke(directory, [(11, "ann")])
    assert (directory / "denied").read_text().startswith("0a # long ago\n0b  # ann, ")
    assert directory / "ca.crl" == write_crl(directory, days=7)
    first = x509.load_pem_x509_crl((directory / "ca.crl").read_bytes())
    assert {10, 11} == {each.serial_number for each in first}
    (directory / "denied").unlink()
    assert [directory / "denied", directory / "ca.crl"] == revoke(directory, [(12, "bob")])
    second = x509.load_pem_x509_crl((directory / "ca.crl").read_bytes())
    assert {10, 11, 12} == {each.serial_number for each in second}
    numbers = [
        each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in (first, second)
    ]
    assert [1, 2] == numbers
    key = load(directory / "ca.crt").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert second.is_signature_valid(key)
