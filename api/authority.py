"""The CA of a worker: its key, and what it signs.

The key is in a directory of its own, ``ca`` beside the directory with the certificates, because the
server reads that one and never signs.
"""

import secrets
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .ca_key_path import key_path
from .certificate_files import AuthorityMissing, CertificateError, PrivateKey, UnusableName
from .roles import ROLES_OID, Role, encode_roles
from .x509_errors import as_value_errors

CA_DAYS = 3650
LEAF_DAYS = 365
_CLOCK_SKEW = timedelta(minutes=5)


class KeyType(StrEnum):
    """The type of a key; a handshake with P-256 takes a sixth of the CPU time."""

    RSA_4096 = "rsa4096"
    P256 = "p256"


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA with its key. Both methods raise CertificateError for what it cannot sign."""

    certificate: x509.Certificate
    key: PrivateKey

    def sign(
        self,
        name: str,
        key: CertificatePublicKeyTypes,
        extensions: Iterable[x509.ExtensionType],
        days: int,
    ) -> x509.Certificate:
        """Return a certificate with this common name, valid for so long, but not longer than the CA."""
        with _signing():
            builder = (
                _builder(common_name(name), key, days, latest=self.certificate.not_valid_after_utc)
                .issuer_name(self.certificate.subject)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_key_usage(for_ca=False), critical=True)
                .add_extension(self._key_identifier(), critical=False)
            )
            for extension in extensions:
                builder = builder.add_extension(extension, critical=False)
            return builder.sign(self.key, hashes.SHA256())

    def renew(
        self, certificate: x509.Certificate, days: int, hosts: Collection[str] = ()
    ) -> x509.Certificate:
        """Return the same certificate with another serial and later dates, also that of the CA itself.

        ``hosts`` are added to the names of a server.
        """
        latest = None if certificate == self.certificate else self.certificate.not_valid_after_utc
        with _signing():
            builder = _builder(certificate.subject, certificate.public_key(), days, latest)
            builder = builder.issuer_name(certificate.issuer)
            for extension in certificate.extensions:
                value: x509.ExtensionType = extension.value
                if isinstance(value, x509.SubjectAlternativeName):
                    value = x509.SubjectAlternativeName(dict.fromkeys((*value, *map(_general_name, hosts))))
                builder = builder.add_extension(value, critical=extension.critical)
            return builder.sign(self.key, hashes.SHA256())

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """Return what names the key of the CA; one of another program may have no identifier of its own."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def new_authority(key_type: KeyType) -> Authority:
    """Return a new CA."""
    key = new_key(key_type)
    # With the same name, a client of another CA would get a misleading error.
    name = common_name(f"worker CA {secrets.token_hex(4)}")
    public = key.public_key()
    certificate = (
        _builder(name, public, CA_DAYS)
        .issuer_name(name)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(for_ca=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def load_authority(directory: Path) -> Authority:
    """Return the CA of a directory; raise AuthorityMissing."""
    certificate, key = directory / "ca.crt", key_path(directory)
    path = certificate
    try:
        with as_value_errors():
            loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
            public = loaded.public_key()
            path = key
            private = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        raise AuthorityMissing(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise AuthorityMissing(path, str(error)) from error
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise AuthorityMissing(key, "is neither an RSA nor an elliptic curve key")
    if private.public_key() != public:
        raise AuthorityMissing(key, f"does not belong to {certificate}")
    return Authority(loaded, private)


@contextmanager
def _signing() -> Iterator[None]:
    """Raise CertificateError for what the certificate of a CA, or the one to renew, does not permit."""
    try:
        with as_value_errors():
            yield
    except ValueError as error:
        raise CertificateError(f"the certificate cannot be signed: {error}") from None


def for_server() -> x509.ExtensionType:
    """Return what makes a certificate that of a server."""
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def is_server(certificate: x509.Certificate) -> bool:
    """Whether a certificate is that of a server, and has the names of one."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in usage


def for_client(roles: Collection[Role]) -> list[x509.ExtensionType]:
    """Return what makes a certificate that of a client with these roles."""
    return [
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), encode_roles(roles)),
    ]


def server_names(hosts: Collection[str]) -> x509.SubjectAlternativeName:
    """Return the names of a server: those of this host, and the given ones."""
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


def common_name(name: str) -> x509.Name:
    """Return a name with this common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def new_key(key_type: KeyType) -> PrivateKey:
    """Return a new key."""
    if key_type is KeyType.P256:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def _builder(
    subject: x509.Name, key: CertificatePublicKeyTypes, days: int, latest: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    end = now + timedelta(days=days)
    if latest is not None and latest <= now:
        raise CertificateError(f"the certificate of the CA expired on {latest:%Y-%m-%d}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _CLOCK_SKEW)
        .not_valid_after(min(end, latest or end))
    )
