"""Who a client is and what it may do: both stand in its certificate.

The identity is the subject's common name. The roles are in an extension of our own, a DER
UTF8String with a comma-separated list. Whatever is not exactly that gives no right at all.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum

from cryptography import x509
from cryptography.x509.oid import NameOID

from . import der

ROLES_OID = x509.ObjectIdentifier("1.2.840.10070.8.1")

log = logging.getLogger(__name__)


class Right(Enum):
    """What a call needs."""

    READ = "read"
    WRITE = "write"


class Role(StrEnum):
    """What a certificate grants."""

    READER = "reader"
    WRITER = "writer"

    @property
    def rights(self) -> frozenset[Right]:
        """What the role allows."""
        return frozenset(Right) if self is Role.WRITER else frozenset({Right.READ})


@dataclass(frozen=True, slots=True)
class Identity:
    """A client: its name, and the roles that its certificate grants."""

    name: str
    roles: frozenset[Role] = frozenset()

    def may(self, right: Right) -> bool:
        """Whether one of the roles allows it."""
        return any(right in role.rights for role in self.roles)


NOBODY = Identity("")


def encode_roles(roles: Collection[Role]) -> bytes:
    """Return the value of the extension."""
    return der.encode(der.UTF8_STRING, ",".join(sorted(roles)).encode())


def parse_roles(value: bytes) -> frozenset[Role]:
    """Return the roles in the value of the extension; raise ValueError if it is malformed in any way."""
    element = der.decode(value)
    if element.tag != der.UTF8_STRING:
        raise ValueError(f"a UTF8String is expected, not an element with tag {element.tag:#04x}")
    if element.end != len(value):
        raise ValueError(f"{len(value) - element.end} bytes after the UTF8String")
    return frozenset(Role(name) for name in element.content.decode().split(","))


def identify(certificate: bytes) -> Identity:
    """Return who shows this DER certificate, already verified by TLS; who cannot be told has no rights."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        log.warning("a client's certificate cannot be read: %s", error)
        return NOBODY
    if len(names) != 1 or not names[0].value:
        log.warning(
            "a client's certificate has %d common names instead of one: it has no rights", len(names)
        )
        return NOBODY
    name = str(names[0].value)
    return Identity(name, _granted(name, parsed))


def _granted(name: str, certificate: x509.Certificate) -> frozenset[Role]:
    try:
        extension = certificate.extensions.get_extension_for_oid(ROLES_OID).value
        assert isinstance(extension, x509.UnrecognizedExtension)
        return parse_roles(extension.value)
    except x509.ExtensionNotFound:
        return frozenset()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        log.warning("the extensions of the certificate of %r grant no role: %s", name, error)
        return frozenset()
