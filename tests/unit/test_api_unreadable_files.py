"""Certificates, CRLs and requests of other programs: they are used, or the error says what is wrong."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from worker.api import certificates, revoking
from worker.api.certificate_details import certificate_details
from worker.api.certificate_files import CertificateError
from worker.api.certificates import KeyType
from worker.api.identity import read_certificate
from worker.api.pem import revocation_lists_in
from worker.api.revocation import denied_serials, revocation_lists
from worker.api.roles import Role
from worker.api.server_tls import ServerTls, TlsFiles
from worker.api.tls import TlsSetupFailed
from worker.api.trust import chain_certificate

from ..support.authorities import TestCA, now, pem, signed_content

CA = TestCA("the CA")
CLIENT = CA.client("ci")
REQUEST = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(CA.name)
    .sign(CA.issued.key, hashes.SHA256())
    .public_bytes(Encoding.DER)
)
VERSION = bytes.fromhex("a003020102")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A CA of another program, and a client: nothing names the key of the CA, no extension is its own."""
    CA.issued.write(tmp_path, "ca")
    CLIENT.write(tmp_path, "ci")
    return tmp_path


def issue(directory: Path, name: str = "new") -> x509.Certificate:
    """Issue a certificate, and read it."""
    path = certificates.issue(directory, name, [Role.WRITER], key_type=KeyType.P256)
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_ca_without_a_key_identifier_is_used(directory: Path) -> None:
    """What it issues names the key by its digest, as RFC 5280 proposes."""
    new = issue(directory)
    new.verify_directly_issued_by(CA.issued.certificate)
    expected = x509.SubjectKeyIdentifier.from_public_key(CA.issued.key.public_key()).digest
    found = new.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert expected == found.key_identifier
    certificates.renew(directory, "ci")


def test_a_ca_that_has_expired_signs_nothing(directory: Path) -> None:
    """The error says when; nothing is created or replaced."""
    old = TestCA(
        "the CA", key=CA.issued.key, begin=now() - timedelta(days=9), end=now() - timedelta(days=1)
    )
    old.issued.write(directory, "ca")
    before = {each: each.read_bytes() for each in directory.iterdir()}
    expected = f"the certificate of the CA expired on {now() - timedelta(days=1):%Y-%m-%d}"
    with pytest.raises(CertificateError, match=expected):
        issue(directory)
    with pytest.raises(CertificateError, match=expected):
        certificates.renew(directory, "ci")
    assert before == {each: each.read_bytes() for each in directory.iterdir()}
    certificates.renew(directory, "ca")
    issue(directory)


def other_version(content: bytes) -> bytes:
    """Return a certificate of a version that does not exist."""
    return content.replace(VERSION, VERSION[:-1] + b"\x0c", 1)


def other_key(content: bytes) -> bytes:
    """Return a certificate with a key that is not on its curve."""
    point = CLIENT.key.public_key().public_numbers()
    return content.replace(point.y.to_bytes(32), (point.y ^ 1).to_bytes(32), 1)


def other_name(content: bytes) -> bytes:
    """Return a certificate with a name that is no text, but a bit string."""
    return content.replace(b"\x0c\x02ci", b"\x03\x02\0i", 1)


@pytest.mark.parametrize("change", [other_version, other_key, other_name])
def test_a_malformed_certificate_is_not_renewed(directory: Path, change: Callable[[bytes], bytes]) -> None:
    """Also if the CA has signed it."""
    content = signed_content(CLIENT.der)
    assert content != change(content)
    changed = pem("CERTIFICATE", CA.sign(change(content)))
    (directory / "ci.crt").write_bytes(changed)
    with pytest.raises(CertificateError, match=r"version|Invalid key|BitString"):
        certificates.renew(directory, "ci")
    assert changed == (directory / "ci.crt").read_bytes()


@pytest.mark.parametrize("data", [b"", b"\x30\x03abc", CLIENT.der[:-1]])
def test_a_server_names_the_file_with_a_malformed_ca(directory: Path, data: bytes) -> None:
    """A block in PEM format whose content is no certificate is an error of the file."""
    CA.server().write(directory, "server")
    (directory / "ca.crt").write_bytes(CA.issued.pem + pem("CERTIFICATE", data))
    files = TlsFiles(*(directory / name for name in ("ca.crt", "server.crt", "server.key")))
    with pytest.raises(TlsSetupFailed, match=str(directory / "ca.crt")):
        ServerTls(lambda: files)


@pytest.mark.parametrize("denied", [b"00\n", b"0a\n" + b"ff" * 20, b"\xff\n"])
def test_a_list_that_cannot_become_a_crl(directory: Path, denied: bytes) -> None:
    """A serial that no CRL can have is named; a list that is no text is an error too."""
    (directory / "denied").write_bytes(denied)
    with pytest.raises(CertificateError, match=r"cannot be in a CRL|denied: .* can't decode"):
        revoking.write_crl(directory)
    assert not (directory / "ca.crl").exists()


def changed(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return strategies for content that the CA signs after a change of some bytes."""
    content = signed_content(whole)
    positions = st.integers(4, len(content) - 1)
    return st.dictionaries(positions, st.integers(0, 255), max_size=3).map(
        lambda changes: CA.sign(bytes(changes.get(at, byte) for at, byte in enumerate(content)))
    )


@given(data=changed(CLIENT.der) | changed(CA.issued.der) | st.binary(max_size=60))
def test_any_certificate_is_read_or_rejected(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the CA has signed: the server reads who it is, and `certs show` what it has."""
    read_certificate(data)
    with suppress(ValueError):
        chain_certificate(data)
    path = tmp_path_factory.getbasetemp() / "any.crt"
    path.write_bytes(pem("CERTIFICATE", data))
    with suppress(ValueError):
        certificate_details(path)


@given(data=changed(revocation_lists_in(CA.crl([CLIENT]))[0]) | st.binary(max_size=60))
def test_any_crl_is_read_or_rejected(data: bytes) -> None:
    """Whatever the CA has signed."""
    with suppress(ValueError):
        revocation_lists([data], [CA.issued.der])


@given(data=changed(REQUEST) | st.binary(max_size=60))
def test_any_request_is_read_or_rejected(data: bytes) -> None:
    """Whatever its owner has signed; the key that is found can be certified."""
    with suppress(CertificateError):
        assert isinstance(certificates._key_of(pem("CERTIFICATE REQUEST", data)), ec.EllipticCurvePublicKey)


@given(text=st.text(max_size=60) | st.text("0123456789abcdefABCDEF:=# \n", max_size=60))
def test_any_list_of_serials_is_read_or_rejected(text: str) -> None:
    """A serial is not negative."""
    with suppress(ValueError):
        assert all(each >= 0 for each in denied_serials(text))
