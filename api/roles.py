"""The roles that a certificate grants, and the rights of each role.

The roles are in an extension of our own, a DER UTF8String with a comma-separated list. Anything else
grants no right at all.
"""

from collections.abc import Collection, Mapping
from enum import Enum, StrEnum

from ..core.policy.calls import CallGroup
from . import peer_certificate as der

ROLES_OID = "1.2.840.10070.8.1"
ROLES_OID_DER = bytes.fromhex("2a8648ce560801")


class Right(Enum):
    """What a method requires of its caller."""

    READ = "read"
    WRITE = "write"
    ATTACH = "attach"


RIGHTS: Mapping[CallGroup, Right] = {
    CallGroup.READ: Right.READ,
    CallGroup.OUTPUT: Right.READ,
    CallGroup.START: Right.WRITE,
    CallGroup.STOP: Right.WRITE,
    CallGroup.SIGNAL: Right.WRITE,
    CallGroup.UPDATE: Right.WRITE,
    CallGroup.REMOVE: Right.WRITE,
    CallGroup.ATTACH: Right.ATTACH,
    CallGroup.ADMIN: Right.WRITE,
}
"""The right that the calls of each group require, whatever a policy allows."""


class Role(StrEnum):
    """What a certificate grants."""

    READER = "reader"
    WRITER = "writer"

    @property
    def rights(self) -> frozenset[Right]:
        """The rights of the role."""
        return frozenset(Right) if self is Role.WRITER else frozenset({Right.READ})


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
