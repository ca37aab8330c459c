"""The CA and the certificates it issues: extensions, modes, dates, and no partial files."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from stat import S_IMODE

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from worker.api import certificates
from worker.api.ca_key_path import key_path
from worker.api.certificate_files import (
    AuthorityExists,
    AuthorityMissing,
    CertificateError,
    CertificateExists,
    UnusableName,
)
from worker.api.certificates import KeyType
from worker.api.identity import read_certificate
from worker.api.roles import Role

from ..support.certificate_sets import handshake, init, load, strict

NAMES = ["ca", "reader", "server", "writer"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates that no test changes."""
    directory = tmp_path_factory.mktemp("certificates") / "pki"
    init(directory, hosts=["worker.example", "192.0.2.7", "bücher.example"])
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a test creates a set of its own."""
    return tmp_path / "pki"


@pytest.mark.parametrize("client", ["writer", "reader"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "worker.example", "192.0.2.7"])
def test_certificates_pass_the_strictest_verification(shared: Path, client: str, host: str) -> None:
    """Both sides accept each other with VERIFY_X509_STRICT, for every name of the server."""
    end = handshake(
        strict(ssl.PROTOCOL_TLS_SERVER, shared, "server"),
        strict(ssl.PROTOCOL_TLS_CLIENT, shared, client),
        host,
    )
    shown = end.getpeercert(binary_form=True)
    assert shown is not None
    identity = read_certificate(shown).identity
    assert (client, {Role(client)}) == (identity.name, identity.roles)


def test_files_and_their_modes(shared: Path) -> None:
    """Only the owner can read keys; the key of the CA is elsewhere; there are no other files."""
    expected = {f"{name}.{kind}": mode for name in NAMES for kind, mode in (("crt", 0o644), ("key", 0o600))}
    del expected["ca.key"]
    assert expected == {path.name: S_IMODE(path.stat().st_mode) for path in shared.iterdir()}
    ca = shared.parent / "ca"
    assert [ca, shared] == sorted(shared.parent.iterdir())
    assert {"ca.key": 0o600} == {path.name: S_IMODE(path.stat().st_mode) for path in ca.iterdir()}
    assert 0o700 == S_IMODE(ca.stat().st_mode)


def test_names_of_the_server(shared: Path) -> None:
    """The given names and addresses follow the default ones; non-ASCII names are encoded as IDNA."""
    names = (
        load(shared / "server.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    )
    assert {"localhost", "worker.example", "xn--bcher-kva.example"} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    assert [ip_address(each) for each in ("127.0.0.1", "::1", "192.0.2.7")] == names.get_values_for_type(
        x509.IPAddress
    )


def test_a_client_certificate_is_not_valid_for_a_server(shared: Path) -> None:
    """A client cannot impersonate the server with its own certificate."""
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(
            strict(ssl.PROTOCOL_TLS_SERVER, shared, "writer"),
            strict(ssl.PROTOCOL_TLS_CLIENT, shared, "reader"),
            "localhost",
        )


@pytest.mark.parametrize(("name", "days"), [("ca", 3650), ("server", 365), ("writer", 365)])
def test_validity(shared: Path, name: str, days: int) -> None:
    """From a few minutes ago, for clocks that are behind, to the given day."""
    certificate = load(shared / f"{name}.crt")
    now = datetime.now(UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert now - timedelta(hours=2) < first < now - timedelta(minutes=4)
    assert now + timedelta(days=days, hours=-2) < last <= now + timedelta(days=days)


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    """The end of a leaf is at most the end of its CA."""
    init(tmp_path / "pki", days=certificates.CA_DAYS + 1)
    ends = {load(tmp_path / "pki" / f"{name}.crt").not_valid_after_utc for name in ("ca", "writer")}
    assert 1 == len(ends)


def test_rsa_4096_is_the_default(tmp_path: Path) -> None:
    """The default type of key is that of the original design."""
    init(tmp_path / "pki")
    path = certificates.issue(tmp_path / "pki", "ann", [Role.READER])
    key = load_pem_private_key(path.with_suffix(".key").read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert 4096 == key.key_size


def test_keys_are_reported_before_they_are_generated(tmp_path: Path) -> None:
    """A caller can show what it is waiting for."""
    reported: list[str] = []
    init(tmp_path / "pki", on_key=reported.append)
    assert ["ca", "server", "writer", "reader"] == reported


@pytest.mark.parametrize("left", ["pki/ca.crt", "pki/ca.key", "ca/ca.key"])
def test_an_existing_ca_is_never_overwritten(tmp_path: Path, left: str) -> None:
    """Not even an incomplete one, or its key where earlier versions kept it; the error names the path."""
    path = tmp_path / left
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(AuthorityExists) as caught:
        init(tmp_path / "pki")
    assert path == caught.value.path
    assert str(path) in str(caught.value)
    assert [path] == [each for each in tmp_path.rglob("*") if each.is_file()]
    assert "precious" == path.read_text()


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    """Existing files are neither mixed with ours nor overwritten."""
    directory = tmp_path / "pki"
    directory.mkdir()
    (directory / "server.crt").write_text("precious")
    with pytest.raises(CertificateError, match="not empty"):
        init(directory)
    assert ["server.crt"] == [path.name for path in directory.iterdir()]


def test_the_directory_may_exist_and_be_empty(tmp_path: Path) -> None:
    """The files are created in it."""
    (tmp_path / "pki").mkdir()
    init(tmp_path / "pki")
    assert (tmp_path / "pki" / "ca.crt").exists()


@pytest.mark.parametrize("moment", NAMES)
def test_an_init_that_fails_leaves_nothing(tmp_path: Path, moment: str) -> None:
    """At whichever key it fails, it leaves no file for a later run."""

    def fail(what: str) -> None:
        if what == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        init(tmp_path / "pki", on_key=fail)
    assert [] == list(tmp_path.iterdir())


def test_two_concurrent_inits_create_one_ca(tmp_path: Path) -> None:
    """The second one fails and changes nothing."""

    def overtake(what: str) -> None:
        if what == "reader":
            init(tmp_path / "pki")

    with pytest.raises(AuthorityExists):
        init(tmp_path / "pki", on_key=overtake)
    assert [tmp_path / "ca", tmp_path / "pki"] == sorted(tmp_path.iterdir())
    strict(ssl.PROTOCOL_TLS_CLIENT, tmp_path / "pki", "reader")


def test_issue_adds_a_client(directory: Path) -> None:
    """The new certificate has the name and roles, and its key is private."""
    init(directory)
    path = certificates.issue(directory, "Ann Émile", list(Role), key_type=KeyType.P256, days=7)
    assert directory / "Ann Émile.crt" == path
    identity = read_certificate(ssl.PEM_cert_to_DER_cert(path.read_text())).identity
    assert ("Ann Émile", frozenset(Role)) == (identity.name, identity.roles)
    key = path.with_suffix(".key")
    assert 0o600 == S_IMODE(key.stat().st_mode)
    assert isinstance(load_pem_private_key(key.read_bytes(), password=None), ec.EllipticCurvePrivateKey)


def test_issue_server_adds_a_server(directory: Path) -> None:
    """It has the purpose and the names of a server certificate."""
    init(directory)
    certificates.issue_server(directory, "second", hosts=["second.example"], key_type=KeyType.P256)
    handshake(
        strict(ssl.PROTOCOL_TLS_SERVER, directory, "second"),
        strict(ssl.PROTOCOL_TLS_CLIENT, directory, "writer"),
        "second.example",
    )


def test_issue_overwrites_nothing(directory: Path) -> None:
    """A name that is in use is rejected, and the error names the path."""
    init(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(CertificateExists, match=str(directory / "writer.crt")):
        certificates.issue(directory, "writer", [Role.READER], key_type=KeyType.P256)
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_key_without_a_certificate_is_not_overwritten(directory: Path) -> None:
    """Its certificate may be on the way."""
    init(directory)
    (directory / "ann.key").write_text("precious")
    with pytest.raises(CertificateExists, match=str(directory / "ann.key")):
        certificates.issue(directory, "ann", [Role.READER], key_type=KeyType.P256)
    assert "precious" == (directory / "ann.key").read_text()
    assert not (directory / "ann.crt").exists()


def test_an_issue_that_fails_leaves_nothing(directory: Path) -> None:
    """An interruption while the key is generated leaves the directory unchanged."""
    init(directory)
    before = sorted(directory.iterdir())

    def fail(_what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certificates.issue(directory, "ann", [Role.READER], on_key=fail)
    assert before == sorted(directory.iterdir())


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-x", ".hidden", "a\nb", "a\0b", "x" * 65, "é" * 40]
)
def test_names_that_cannot_be_used(directory: Path, name: str) -> None:
    """A name that is not a file name or common name is rejected before anything is created."""
    with pytest.raises(UnusableName):
        certificates.issue(directory, name, [Role.READER], key_type=KeyType.P256)
    assert not directory.exists()


@pytest.mark.parametrize("host", ["", "a b", "a/b", "x" * 64 + ".example", "a..b", "1.2.3.4:80"])
def test_hosts_that_cannot_be_used(tmp_path: Path, host: str) -> None:
    """Text that is neither a host name nor an address is rejected before anything is created."""
    with pytest.raises(UnusableName):
        init(tmp_path / "pki", hosts=[host])
    assert [] == list(tmp_path.iterdir())


def test_issue_without_a_ca(directory: Path) -> None:
    """The error names the missing file."""
    with pytest.raises(AuthorityMissing, match="No such file") as caught:
        certificates.issue(directory, "ann", [Role.READER])
    assert directory / "ca.crt" == caught.value.path


def test_issue_with_a_key_of_another_ca(tmp_path: Path) -> None:
    """Certificates signed with the key of another CA would not be accepted."""
    one, two = tmp_path / "one" / "pki", tmp_path / "two" / "pki"
    init(one)
    init(two)
    key_path(one).write_bytes(key_path(two).read_bytes())
    with pytest.raises(AuthorityMissing, match="does not belong"):
        certificates.issue(one, "ann", [Role.READER])


def test_issue_with_a_damaged_ca(directory: Path) -> None:
    """The error names the key that cannot be read."""
    init(directory)
    key_path(directory).write_text("damaged")
    with pytest.raises(AuthorityMissing) as caught:
        certificates.issue(directory, "ann", [Role.READER])
    assert directory.parent / "ca" / "ca.key" == caught.value.path


def test_the_key_may_be_where_earlier_versions_kept_it(directory: Path) -> None:
    """A home of such a version can still issue certificates."""
    init(directory)
    (directory.parent / "ca" / "ca.key").rename(directory / "ca.key")
    certificates.issue(directory, "ann", [Role.READER], key_type=KeyType.P256)
    strict(ssl.PROTOCOL_TLS_CLIENT, directory, "ann")
