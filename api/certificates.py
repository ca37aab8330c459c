"""The certificates of a worker: a CA of its own, and what it issues.

Files appear whole or not at all: the set of ``init`` by renaming a directory, a later
certificate after its key. A key file is never readable by others, not for a moment.
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
    """Something about certificates cannot be done; the message names the path."""


class AuthorityExists(CertificateError):
    """There is a CA already; it is never overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; a CA is never overwritten")
        self.path = path


class AuthorityMissing(CertificateError):
    """There is no CA to issue certificates with, or it cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot use the CA: {path}: {reason}")
        self.path = path


class CertificateExists(CertificateError):
    """There is a certificate of this name already."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; choose another name, or move it away")
        self.path = path


class UnusableName(CertificateError):
    """The name of a client or host cannot be put into a certificate."""


class KeyType(StrEnum):
    """The kind of key; P-256 makes a handshake cost a sixth of the CPU."""

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
    ca_days: int = CA_DAYS,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> None:
    """Fill a new directory with a CA and the certificates of a server, a writer and a reader.

    ``hosts`` are names and addresses of the server beyond localhost and the host's own name;
    ``on_key`` is told before each key is made, which may take seconds.
    Raises AuthorityExists, UnusableName, CertificateError and OSError; nothing has changed then.
    """
    told = on_key or _tell_nobody
    names = _server_names(hosts)
    _check_vacant(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        authority = _make_authority(staging, key_type, ca_days, told)
        _issue(staging, authority, "server", [_for_server(), names], key_type, days, told)
        for role in (Role.WRITER, Role.READER):
            _issue(staging, authority, role, _for_client([role]), key_type, days, told)
        _sync(staging)
        try:
            staging.rename(directory)  # over an empty directory too, never over anything else
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
    """Make a client's certificate ``name``.crt and its key ``name``.key, and return the former's path.

    Raises UnusableName, AuthorityMissing, CertificateExists and OSError; nothing has changed then.
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
    """Make a server's certificate, as ``issue`` makes a client's."""
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
        _issue(staging, authority, name, extensions, key_type, days, on_key or _tell_nobody)
        with _locked(directory):
            if certificate.exists():
                raise CertificateExists(certificate)
            # A key without its certificate is what a crash just here leaves: it is replaced.
            (staging / key.name).rename(key)
            (staging / certificate.name).rename(certificate)
            _sync(directory)
    finally:
        shutil.rmtree(staging)
    return certificate


def _make_authority(directory: Path, key_type: KeyType, days: int, on_key: OnKey) -> _Authority:
    on_key("ca")
    key = _new_key(key_type)
    # Two CAs must differ in name, else a client of the other gets a misleading error.
    name = _common_name(f"worker CA {secrets.token_hex(4)}")
    certificate = (
        _builder(name, key, days)
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
    # In the order given, each once.
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
        raise CertificateError(f"{directory} is not empty; certificates need a directory of their own")


def _check_name(name: str) -> None:
    """Refuse what cannot be a file name or a common name (at most 64 characters, RFC 5280)."""
    if not 0 < len(name) <= 64 or not name.isprintable() or "/" in name or name.startswith((".", "-")):
        raise UnusableName(f"{name!r} cannot be the name of a certificate")


def _write(directory: Path, name: str, certificate: x509.Certificate, key: PrivateKey) -> None:
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_file(directory / f"{name}.key", secret, 0o600)
    _write_file(directory / f"{name}.crt", certificate.public_bytes(Encoding.PEM), 0o644)


def _write_file(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # the umask may have taken bits away
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time publish certificates here."""
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


def _tell_nobody(_what: str) -> None:
    """Stand in where nobody wants to know."""
