"""TLS contexts: only version 1.3, and errors that name the file."""

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from worker.api import certificates, tls
from worker.api.certificates import KeyType

from ..support.served import server_tls

HEAD, FOOT = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates."""
    directory = tmp_path_factory.mktemp("tls") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    return directory


def client(pki: Path, **files: Path) -> tls.ClientContext:
    """Return the writer's context with some files replaced."""
    usual = {"ca": pki / "ca.crt", "certificate": pki / "writer.crt", "key": pki / "writer.key"}
    return tls.client_context(**(usual | files))


def test_the_server_requires_tls_1_3_and_a_certificate(pki: Path) -> None:
    """No older version, no client without a certificate, no resumed session."""
    context = server_tls(pki).context_for_next_connection()
    assert ssl.TLSVersion.TLSv1_3 == context.minimum_version
    assert ssl.CERT_REQUIRED == context.verify_mode
    assert 0 == context.num_tickets


def test_the_client_checks_the_name_of_the_server(pki: Path) -> None:
    """It requires TLS 1.3 and a certificate for the right name."""
    context = client(pki)
    assert ssl.TLSVersion.TLSv1_3 == context.minimum_version
    assert context.check_hostname
    assert pki / "writer.crt" == context.certificate


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
def test_a_missing_file_is_named(pki: Path, tmp_path: Path, part: str) -> None:
    """The error names the file and the reason."""
    missing = tmp_path / "missing"
    with pytest.raises(tls.TlsSetupFailed) as caught:
        client(pki, **{part: missing})
    assert f"cannot read {missing}: No such file or directory" == str(caught.value)


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
def test_a_file_of_another_kind_is_named(pki: Path, tmp_path: Path, part: str) -> None:
    """The error names the file that is not PEM."""
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff\0not PEM")
    with pytest.raises(tls.TlsSetupFailed, match=str(garbage)):
        client(pki, **{part: garbage})


def test_a_key_of_another_certificate_is_named(pki: Path) -> None:
    """The error names both files."""
    with pytest.raises(tls.TlsSetupFailed, match=r"reader.key does not belong to .*writer.crt"):
        client(pki, key=pki / "reader.key")


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-384", "Ed25519"],
)
def test_a_key_of_another_type_does_not_belong_to_the_certificate(
    pki: Path, tmp_path: Path, key: PrivateKeyTypes
) -> None:
    """The error says that they do not belong together, not that a file has another format."""
    other = tmp_path / "other.key"
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(tls.TlsSetupFailed, match=r"other.key does not belong to .*writer.crt"):
        client(pki, key=other)


def test_an_encrypted_key_is_rejected_without_a_prompt(pki: Path, tmp_path: Path) -> None:
    """OpenSSL does not prompt for a passphrase."""
    key = load_pem_private_key((pki / "writer.key").read_bytes(), password=None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(tls.TlsSetupFailed, match="encrypted"):
        client(pki, key=encrypted)


def test_a_directory_is_named(pki: Path, tmp_path: Path) -> None:
    """A path that cannot be read for another reason is reported with that reason."""
    with pytest.raises(tls.TlsSetupFailed, match=f"cannot read {tmp_path}: Is a directory"):
        client(pki, ca=tmp_path)


@pytest.mark.parametrize(
    "last", [datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)]
)
def test_validity_is_read_from_the_file(tmp_path: Path, last: datetime) -> None:
    """The first certificate of the file counts; dates from 2050 on have another encoding."""
    first, path = datetime(2020, 1, 1, tzinfo=UTC), tmp_path / "x.crt"
    certificates.init(tmp_path / "pki", key_type=KeyType.P256)
    path.write_bytes(dated_certificate(first, last) + (tmp_path / "pki" / "ca.crt").read_bytes())
    assert (first, last) == tls.validity(path)


def dated_certificate(first: datetime, last: datetime) -> bytes:
    """Return a certificate in PEM format with these dates."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(first)
        .not_valid_after(last)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "text", ["", "garbage", *(f"{HEAD}\n{data}\n{FOOT}" for data in ("MAA=", "MAIwAA==", "MAQwAgUA"))]
)
def test_validity_of_something_else(tmp_path: Path, text: str) -> None:
    """A file without a valid certificate is a ValueError."""
    path = tmp_path / "x.crt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        tls.validity(path)


def test_the_client_side_loads_nothing_that_it_does_not_need() -> None:
    """A short command does not import cryptography, click or cattrs."""
    program = (
        "import sys, worker.client.client, worker.api.tls; "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "print(loaded & {'cryptography', 'click', 'cattrs', 'google'})"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    ).stdout
    assert "set()\n" == output
