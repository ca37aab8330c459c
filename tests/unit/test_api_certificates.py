"""The CA and the certificates it issues: extensions, modes, dates, and no partial files."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from stat import S_IMODE

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

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
from worker.api.revoking import revoke, write_crl
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


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a test creates a set of its own."""
    return tmp_path / "pki"


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


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", ".hidden", "a\nb", "a\0b", "x" * 65])
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
