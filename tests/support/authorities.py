"""CAs for tests: roots and intermediate ones, their certificates of any dates, and their CRLs."""

import base64
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from worker.api import peer_certificate as der
from worker.api import tls
from worker.api.roles import ROLES_OID, Role, encode_roles

MONTH = timedelta(days=30)

FOR_CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def now() -> datetime:
    """Return the time in whole seconds, as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM format."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def serial(self) -> int:
        """Its serial."""
        return self.certificate.serial_number

    def write(self, directory: Path, name: str, *chain: "Issued") -> None:
        """Write NAME.crt, with further certificates of the chain, and NAME.key."""
        directory.mkdir(exist_ok=True)
        (directory / f"{name}.crt").write_bytes(b"".join(each.pem for each in (self, *chain)))
        secret = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / f"{name}.key").write_bytes(secret)

    def context(self, ca: Path, directory: Path, name: str, *chain: "Issued") -> tls.ClientContext:
        """Write it, and return the context of a client that uses it and trusts this CA."""
        self.write(directory, name, *chain)
        return tls.client_context(
            ca=ca, certificate=directory / f"{name}.crt", key=directory / f"{name}.key"
        )


class TestCA:
    """A CA: a root, or one below ``parent``; ``key`` and ``name`` may be those of another one."""

    __test__ = False

    def __init__(
        self,
        name: str,
        parent: "TestCA | None" = None,
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        begin: datetime | None = None,
        end: datetime | None = None,
        purposes: Sequence[x509.ExtensionType] = (),
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self.name, key, begin, end).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        for purpose in purposes:
            builder = builder.add_extension(purpose, critical=False)
        builder = builder.issuer_name(parent.name if parent else self.name)
        self.issued = Issued(builder.sign(parent.issued.key if parent else key, hashes.SHA256()), key)

    def client(
        self,
        name: str,
        roles: Collection[Role] = (Role.WRITER,),
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        purposes: Sequence[x509.ExtensionType] = (FOR_CLIENTS,),
    ) -> Issued:
        """Issue the certificate of a client."""
        of_roles = x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), encode_roles(roles))
        return self._leaf(name, [*purposes, of_roles], begin, end)

    def server(
        self, *, end: datetime | None = None, purposes: Sequence[x509.ExtensionType] = (FOR_SERVERS,)
    ) -> Issued:
        """Issue the certificate of a server."""
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(LOOPBACK)])
        return self._leaf("server", [*purposes, names], None, end)

    def crl(
        self,
        revoked: Iterable[Issued] = (),
        *,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        begin: datetime | None = None,
        end: datetime | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """Return a CRL in PEM format, signed with the key of the CA or another one."""
        begin = begin or now() - timedelta(minutes=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(begin)
            .next_update(end or begin + MONTH)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(begin)
            builder = builder.add_revoked_certificate(entry.build())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(key or self.issued.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def sign(self, content: bytes) -> bytes:
        """Return content with the CA's signature, in DER: a certificate, a CRL or a request."""
        signature = self.issued.key.sign(content, ec.ECDSA(hashes.SHA256()))
        parts = [content, _algorithm(self.issued.der), der.encode(_BIT_STRING, b"\0" + signature)]
        return der.encode(der.SEQUENCE, b"".join(parts))

    def _leaf(
        self,
        name: str,
        extensions: Iterable[x509.ExtensionType],
        begin: datetime | None,
        end: datetime | None,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, key, begin, end).issuer_name(self.name)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Issued(builder.sign(self.issued.key, hashes.SHA256()), key)


LOOPBACK = ip_address("127.0.0.1")

_BIT_STRING = 0x03


def signed_content(whole: bytes) -> bytes:
    """Return the part of a certificate, a CRL or a request that is signed, in DER."""
    return _part(whole, 0)


def _algorithm(whole: bytes) -> bytes:
    return _part(whole, 1)


def _part(whole: bytes, position: int) -> bytes:
    part = der.children(der.decode(whole), der.SEQUENCE)[position]
    return der.encode(part.tag, part.content)


def pem(label: str, data: bytes) -> bytes:
    """Return data in PEM format."""
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()


def replace(path: Path, data: bytes) -> None:
    """Replace a file by renaming another one over it."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.rename(path)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, begin: datetime | None, end: datetime | None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now() - timedelta(days=1))
        .not_valid_after(end or now() + timedelta(days=365))
    )
