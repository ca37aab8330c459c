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
from worker.api.certificates import (
    AuthorityExists,
    AuthorityMissing,
    CertificateError,
    CertificateExists,
    KeyType,
    UnusableName,
)
from worker.api.identity import read_certificate
from worker.api.roles import Role

NAMES = ["ca", "reader", "server", "writer"]


def init(directory: Path, **arguments: object) -> None:
    """Create a set with P-256 keys, which are quick to generate."""
    certificates.init(directory, key_type=KeyType.P256, **arguments)  # type: ignore[arg-type]


def load(path: Path) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates that no test changes."""
    directory = tmp_path_factory.mktemp("certificates") / "pki"
    init(directory, hosts=["worker.example", "192.0.2.7", "bücher.example"])
    return directory


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Perform a handshake in memory and return the server's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1]


def strict(purpose: int, directory: Path, name: str) -> ssl.SSLContext:
    """Return a context that is as strict as the default of Python 3.13."""
    context = ssl.SSLContext(purpose)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(directory / "ca.crt")
    context.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
    return context


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
    """Only the owner can read keys, everyone can read certificates, and there are no other files."""
    expected = {f"{name}.{kind}": mode for name in NAMES for kind, mode in (("crt", 0o644), ("key", 0o600))}
    assert expected == {path.name: S_IMODE(path.stat().st_mode) for path in shared.iterdir()}
    assert [shared] == list(shared.parent.iterdir())


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


@pytest.mark.parametrize("left", ["ca.crt", "ca.key"])
def test_an_existing_ca_is_never_overwritten(tmp_path: Path, left: str) -> None:
    """Not even an incomplete one; the error names the path."""
    directory = tmp_path / "pki"
    directory.mkdir()
    (directory / left).write_text("precious")
    with pytest.raises(AuthorityExists) as caught:
        init(directory)
    assert directory / left == caught.value.path
    assert str(directory / left) in str(caught.value)
    assert {left: "precious"} == {path.name: path.read_text() for path in directory.iterdir()}


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
    assert [tmp_path / "pki"] == list(tmp_path.iterdir())
    strict(ssl.PROTOCOL_TLS_CLIENT, tmp_path / "pki", "reader")


def test_issue_adds_a_client(tmp_path: Path) -> None:
    """The new certificate has the name and roles, and its key is private."""
    init(tmp_path)
    path = certificates.issue(tmp_path, "Ann Émile", list(Role), key_type=KeyType.P256, days=7)
    assert tmp_path / "Ann Émile.crt" == path
    identity = read_certificate(ssl.PEM_cert_to_DER_cert(path.read_text())).identity
    assert ("Ann Émile", frozenset(Role)) == (identity.name, identity.roles)
    key = path.with_suffix(".key")
    assert 0o600 == S_IMODE(key.stat().st_mode)
    assert isinstance(load_pem_private_key(key.read_bytes(), password=None), ec.EllipticCurvePrivateKey)


def test_issue_server_adds_a_server(tmp_path: Path) -> None:
    """It has the purpose and the names of a server certificate."""
    init(tmp_path)
    certificates.issue_server(tmp_path, "second", hosts=["second.example"], key_type=KeyType.P256)
    handshake(
        strict(ssl.PROTOCOL_TLS_SERVER, tmp_path, "second"),
        strict(ssl.PROTOCOL_TLS_CLIENT, tmp_path, "writer"),
        "second.example",
    )


def test_issue_overwrites_nothing(tmp_path: Path) -> None:
    """A name that is in use is rejected, and the error names the path."""
    init(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CertificateExists, match=str(tmp_path / "writer.crt")):
        certificates.issue(tmp_path, "writer", [Role.READER], key_type=KeyType.P256)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_issue_after_a_crash(tmp_path: Path) -> None:
    """A key without a certificate, as a crash leaves it, is replaced."""
    init(tmp_path)
    (tmp_path / "ann.key").write_text("of a certificate that was never written")
    certificates.issue(tmp_path, "ann", [Role.READER], key_type=KeyType.P256)
    strict(ssl.PROTOCOL_TLS_CLIENT, tmp_path, "ann")


def test_an_issue_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An interruption while the key is generated leaves the directory unchanged."""
    init(tmp_path)
    before = sorted(tmp_path.iterdir())

    def fail(_what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certificates.issue(tmp_path, "ann", [Role.READER], on_key=fail)
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", ".hidden", "a\nb", "a\0b", "x" * 65])
def test_names_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    """A name that is not a file name or common name is rejected before anything is created."""
    with pytest.raises(UnusableName):
        certificates.issue(tmp_path, name, [Role.READER], key_type=KeyType.P256)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["", "a b", "a/b", "x" * 64 + ".example", "a..b", "1.2.3.4:80"])
def test_hosts_that_cannot_be_used(tmp_path: Path, host: str) -> None:
    """Text that is neither a host name nor an address is rejected before anything is created."""
    with pytest.raises(UnusableName):
        init(tmp_path / "pki", hosts=[host])
    assert [] == list(tmp_path.iterdir())


def test_issue_without_a_ca(tmp_path: Path) -> None:
    """The error names the missing file."""
    with pytest.raises(AuthorityMissing, match="No such file") as caught:
        certificates.issue(tmp_path, "ann", [Role.READER])
    assert tmp_path / "ca.crt" == caught.value.path


def test_issue_with_a_key_of_another_ca(tmp_path: Path) -> None:
    """Certificates signed with the key of another CA would not be accepted."""
    init(tmp_path / "one")
    init(tmp_path / "two")
    (tmp_path / "one" / "ca.key").write_bytes((tmp_path / "two" / "ca.key").read_bytes())
    with pytest.raises(AuthorityMissing, match="does not belong"):
        certificates.issue(tmp_path / "one", "ann", [Role.READER])


def test_issue_with_a_damaged_ca(tmp_path: Path) -> None:
    """The error names the key that cannot be read."""
    init(tmp_path)
    (tmp_path / "ca.key").write_text("damaged")
    with pytest.raises(AuthorityMissing) as caught:
        certificates.issue(tmp_path, "ann", [Role.READER])
    assert tmp_path / "ca.key" == caught.value.path
