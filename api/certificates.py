"""The certificates of a worker: its own CA, and the certificates that this CA issues.

Files appear complete or not at all: ``init`` renames a whole directory into place; a later certificate
is renamed after its key. A key file is created with mode 0600, so it is never readable by others.
"""

import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .roles import ROLES_OID, Role, encode_roles

CA_DAYS = 3650
LEAF_DAYS = 365
_CLOCK_SKEW = timedelta(minutes=5)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
OnKey = Callable[[str], None]


class CertificateError(Exception):
    """An operation on certificates failed; the message names the path."""


class AuthorityExists(CertificateError):
    """A CA already exists; it is never overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; a CA is never overwritten")
        self.path = path


class AuthorityMissing(CertificateError):
    """The CA does not exist or cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot use the CA: {path}: {reason}")
        self.path = path


class CertificateExists(CertificateError):
    """A certificate with this name already exists."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; choose another name, or move the file")
        self.path = path


class UnusableName(CertificateError):
    """A certificate cannot contain this name of a client or host."""


class KeyType(StrEnum):
    """The type of a key; a handshake with P-256 takes a sixth of the CPU time."""

    RSA_4096 = "rsa4096"
    P256 = "p256"


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: PrivateKey


def init(
    directory: Path,
    *,
    hosts: Collection[str] = (),
    key_type: KeyType = KeyType.RSA_4096,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> None:
    """Create a directory with a CA and the certificates of a server, a writer and a reader.

    ``hosts`` are names and addresses of the server in addition to localhost and the host's own name;
    ``on_key`` is called with the name of each key before it is generated, which may take seconds.
    Raises AuthorityExists, UnusableName, CertificateError and OSError, and then changes nothing.
    """
    on_key = on_key or _no_report
    names = _server_names(hosts)
    _check_vacant(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        authority = _make_authority(staging, key_type, on_key)
        _issue(staging, authority, "server", [_for_server(), names], key_type, days, on_key)
        for role in (Role.WRITER, Role.READER):
            _issue(staging, authority, role, _for_client([role]), key_type, days, on_key)
        _sync(staging)
        try:
            staging.rename(directory)  # replaces an empty directory, and nothing else
        except OSError:
            _check_vacant(directory)
            raise
    except BaseException:
        shutil.rmtree(staging)
        raise
    _sync(directory.parent)


def issue(
    directory: Path,
    name: str,
    roles: Collection[Role],
    *,
    key_type: KeyType = KeyType.RSA_4096,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> Path:
    """Create a client's certificate ``name``.crt and key ``name``.key; return the certificate's path.

    Raises UnusableName, AuthorityMissing, CertificateExists and OSError, and then changes nothing.
    """
    _check_name(name)
    return _issue_into(directory, name, _for_client(roles), key_type, days, on_key)


def issue_server(
    directory: Path,
    name: str = "server",
    *,
    hosts: Collection[str] = (),
    key_type: KeyType = KeyType.RSA_4096,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> Path:
    """Create a server's certificate, as ``issue`` does for a client."""
    _check_name(name)
    return _issue_into(directory, name, [_for_server(), _server_names(hosts)], key_type, days, on_key)


def _issue_into(
    directory: Path,
    name: str,
    extensions: Sequence[x509.ExtensionType],
    key_type: KeyType,
    days: int,
    on_key: OnKey | None,
) -> Path:
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    if certificate.exists():
        raise CertificateExists(certificate)
    authority = _load_authority(directory)
    staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=directory))
    try:
        _issue(staging, authority, name, extensions, key_type, days, on_key or _no_report)
        with _locked(directory):
            if certificate.exists():
                raise CertificateExists(certificate)
            # Replaces a key without a certificate, which a crash between these two lines leaves.
            (staging / key.name).rename(key)
            (staging / certificate.name).rename(certificate)
            _sync(directory)
    finally:
        shutil.rmtree(staging)
    return certificate


def _make_authority(directory: Path, key_type: KeyType, on_key: OnKey) -> _Authority:
    on_key("ca")
    key = _new_key(key_type)
    # With the same name, a client of another CA would get a misleading error.
    name = _common_name(f"worker CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, key, CA_DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(for_ca=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(directory, "ca", certificate, key)
    return _Authority(certificate, key)


def _issue(
    directory: Path,
    authority: _Authority,
    name: str,
    extensions: Sequence[x509.ExtensionType],
    key_type: KeyType,
    days: int,
    on_key: OnKey,
) -> None:
    on_key(name)
    key = _new_key(key_type)
    key_identifier = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    builder = (
        _builder(_common_name(name), key, days, latest=authority.certificate.not_valid_after_utc)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(for_ca=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier.value),
            critical=False,
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    _write(directory, name, builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, key: PrivateKey, days: int, latest: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _CLOCK_SKEW)
        .not_valid_after(min(end, latest or end))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _for_server() -> x509.ExtensionType:
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def _for_client(roles: Collection[Role]) -> list[x509.ExtensionType]:
    return [
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), encode_roles(roles)),
    ]


def _server_names(hosts: Collection[str]) -> x509.SubjectAlternativeName:
    # In the given order, without duplicates.
    names = dict.fromkeys(("localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts))
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise UnusableName(f"{host!r} is neither a host name nor an IP address") from None
    if not name or not all(char.isalnum() or char in "-._*" for char in name):
        raise UnusableName(f"{host!r} is neither a host name nor an IP address")
    return x509.DNSName(name)


def _key_usage(*, for_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not for_ca,  # all that TLS 1.3 needs
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=for_ca,
        crl_sign=for_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _new_key(key_type: KeyType) -> PrivateKey:
    if key_type is KeyType.P256:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def _load_authority(directory: Path) -> _Authority:
    certificate, key = directory / "ca.crt", directory / "ca.key"
    path = certificate
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        path = key
        private = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        raise AuthorityMissing(path, error.strerror or str(error)) from error
    except (ValueError, TypeError) as error:  # TypeError: the key is encrypted
        raise AuthorityMissing(path, str(error)) from error
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise AuthorityMissing(key, "is neither an RSA nor an elliptic curve key")
    if private.public_key() != loaded.public_key():
        raise AuthorityMissing(key, f"does not belong to {certificate}")
    return _Authority(loaded, private)


def _check_vacant(directory: Path) -> None:
    for name in ("ca.crt", "ca.key"):
        if os.path.lexists(directory / name):
            raise AuthorityExists(directory / name)
    if directory.exists() and any(directory.iterdir()):
        raise CertificateError(f"{directory} is not empty; certificates need their own directory")


def _check_name(name: str) -> None:
    """Reject names that are not a file name or a common name (at most 64 characters, RFC 5280)."""
    if not 0 < len(name) <= 64 or not name.isprintable() or "/" in name or name.startswith((".", "-")):
        raise UnusableName(f"{name!r} is not usable as the name of a certificate")


def _write(directory: Path, name: str, certificate: x509.Certificate, key: PrivateKey) -> None:
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_file(directory / f"{name}.key", secret, 0o600)
    _write_file(directory / f"{name}.crt", certificate.public_bytes(Encoding.PEM), 0o644)


def _write_file(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # the umask may have cleared bits
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the directory, so that one process at a time publishes certificates in it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_report(_name: str) -> None:
    """Do nothing: the default for ``on_key``."""
