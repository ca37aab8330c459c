"""The identity of a client and what it may do; both are in its certificate.

The identity is the subject's common name. The roles are in an extension of our own, a DER
UTF8String with a comma-separated list. Anything else grants no right at all.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum

from . import peer_certificate as der

ROLES_OID = "1.2.840.10070.8.1"
_ROLES = bytes.fromhex("2a8648ce560801")  # the same in DER

log = logging.getLogger(__name__)


class Right(Enum):
    """What a method requires of its caller."""

    READ = "read"
    WRITE = "write"
    ATTACH = "attach"


class Role(StrEnum):
    """What a certificate grants."""

    READER = "reader"
    WRITER = "writer"

    @property
    def rights(self) -> frozenset[Right]:
        """The rights of the role."""
        return frozenset(Right) if self is Role.WRITER else frozenset({Right.READ})


@dataclass(frozen=True, slots=True)
class Identity:
    """A client: its name, and the roles that its certificate grants."""

    name: str
    roles: frozenset[Role] = frozenset()

    def may(self, right: Right) -> bool:
        """Whether one of the roles has this right."""
        return any(right in role.rights for role in self.roles)


ANONYMOUS = Identity("")


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
    """Return the identity in a DER certificate that TLS has verified; ANONYMOUS if there is not one."""
    try:
        subject, extensions = der.subject_and_extensions(certificate)
        names = der.common_names(subject)
    except ValueError as error:
        log.warning("cannot read the certificate of a client: %s", error)
        return ANONYMOUS
    if len(names) != 1 or not names[0]:
        log.warning("client certificate with %d common names instead of one: no rights", len(names))
        return ANONYMOUS
    return Identity(names[0], _granted_roles(names[0], extensions))


def _granted_roles(name: str, extensions: list[der.Element]) -> frozenset[Role]:
    try:
        values = der.extension_values(extensions)
        return parse_roles(values[_ROLES]) if _ROLES in values else frozenset()
    except ValueError as error:
        log.warning("the extensions in the certificate of %r grant no role: %s", name, error)
        return frozenset()
