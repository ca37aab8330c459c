"""Who calls: the identity and the other facts in a client's certificate, and the client's address.

The name is the subject's common name. A certificate without exactly one, or one that cannot be read
completely, gives no right.
"""

import logging
from dataclasses import dataclass
from hashlib import sha256

from ..core.model.client_id import ClientId
from . import peer_certificate as der
from .roles import ROLES_OID_DER, Right, Role, parse_roles

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """A client: its name, the CA that vouches for it, and the roles that its certificate grants.

    ``issuer`` is the issuer's distinguished name as text (RFC 4514). Name and issuer together identify
    the client: another CA may give the same name to another client.
    """

    name: str
    issuer: str = ""
    roles: frozenset[Role] = frozenset()

    @property
    def client(self) -> ClientId:
        """Name and issuer."""
        return ClientId(self.name, self.issuer)

    def may(self, right: Right) -> bool:
        """Whether one of the roles has this right."""
        return any(right in role.rights for role in self.roles)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What the server knows of a client's certificate.

    ``fingerprint`` is the SHA-256 of the certificate in hex; the times are in seconds since the epoch.
    """

    identity: Identity
    serial: int
    fingerprint: str
    not_before: int
    not_after: int

    @property
    def serial_hex(self) -> str:
        """The serial number as logs, lists and commands show it."""
        return serial_text(self.serial)


@dataclass(frozen=True, slots=True)
class Caller:
    """The client at the other end of a connection.

    ``address`` is where it connects from: ``192.0.2.7:40000``, ``[2001:db8::1]:40000``.
    """

    certificate: ClientCertificate
    address: str

    def __str__(self) -> str:
        return f"{self.address}: {self.name!r}, serial {self.certificate.serial_hex}"

    @property
    def identity(self) -> Identity:
        """The identity in the certificate."""
        return self.certificate.identity

    @property
    def name(self) -> str:
        """The name in the certificate."""
        return self.identity.name


ANONYMOUS = Identity("")
NO_CERTIFICATE = ClientCertificate(ANONYMOUS, serial=0, fingerprint="", not_before=0, not_after=0)
ANONYMOUS_CALLER = Caller(NO_CERTIFICATE, address="")
"""Outside of a call."""


def serial_text(serial: int) -> str:
    """Return a serial number as hex digits, two for each byte, as OpenSSL shows it."""
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + "0" * (len(digits) % 2) + digits


def read_certificate(certificate: bytes) -> ClientCertificate:
    """Return what is in a DER certificate that TLS has verified; it never raises.

    One that cannot be read has no name, and was never valid.
    """
    fingerprint = sha256(certificate).hexdigest()
    try:
        fields = der.fields(certificate)
        issuer = der.distinguished_name(fields.issuer)
        names = der.common_names(fields.subject)
    except ValueError as error:
        log.warning("cannot read the certificate of a client: %s", error)
        return ClientCertificate(ANONYMOUS, 0, fingerprint, 0, 0)
    if len(names) == 1 and names[0]:
        identity = Identity(names[0], issuer, _granted_roles(names[0], fields.extensions))
    else:
        log.warning("client certificate with %d common names instead of one: no rights", len(names))
        identity = Identity("", issuer)
    return ClientCertificate(identity, fields.serial, fingerprint, fields.not_before, fields.not_after)


def peer_address(name: object) -> str:
    """Return the address of a peer as text; ``name`` is the result of getpeername(2)."""
    if not isinstance(name, tuple):
        return ""
    host, port, *_ = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _granted_roles(name: str, extensions: list[der.Element]) -> frozenset[Role]:
    try:
        values = der.extension_values(extensions)
        return parse_roles(values[ROLES_OID_DER]) if ROLES_OID_DER in values else frozenset()
    except ValueError as error:
        log.warning("the extensions in the certificate of %r grant no role: %s", name, error)
        return frozenset()
