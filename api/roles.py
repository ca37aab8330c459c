"""Who a client is and what it may do: both stand in its certificate.

The identity is the subject's common name. The roles are in an extension of our own, a DER
UTF8String with a comma-separated list. Whatever is not exactly that gives no right at all.
Certificates are read here without the cryptography package, which costs a server 9 MB; TLS has
verified them before. The structure is that of RFC 5280, 4.1.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum

from . import der

ROLES_OID = "1.2.840.10070.8.1"

_ROLES = bytes.fromhex("2a8648ce560801")  # the object identifiers as DER has them
_COMMON_NAME = bytes.fromhex("550403")
_ENCODINGS = {der.UTF8_STRING: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_EXTENSION_TAGS = (
    [der.OBJECT_IDENTIFIER, der.OCTET_STRING],
    [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING],
)
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # fields with a tag of their own

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
        subject, extensions = _parts(certificate)
        names = _common_names(subject)
    except ValueError as error:
        log.warning("a client's certificate cannot be read: %s", error)
        return NOBODY
    if len(names) != 1 or not names[0]:
        log.warning(
            "a client's certificate has %d common names instead of one: it has no rights", len(names)
        )
        return NOBODY
    return Identity(names[0], _granted(names[0], extensions))


def _parts(certificate: bytes) -> tuple[der.Element, list[der.Element]]:
    """Return the subject, and what holds the extensions: one element or none."""
    whole = der.decode(certificate)
    signed = der.children(whole, der.SEQUENCE)
    if whole.end != len(certificate) or len(signed) != 3:
        raise ValueError("not a certificate")
    # [0] version, serial number, algorithm, issuer, validity, subject, key, [1], [2], [3] extensions
    fields = der.children(signed[0], der.SEQUENCE)
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    if len(fields) < 6:
        raise ValueError("not a certificate")
    return fields[4], [field for field in fields[6:] if field.tag == _EXTENSIONS]


def _common_names(subject: der.Element) -> list[str]:
    names = []
    for group in der.children(subject, der.SEQUENCE):
        for attribute in der.children(group, der.SET):
            parts = der.children(attribute, der.SEQUENCE)
            if len(parts) != 2:
                raise ValueError("an attribute of the subject is no pair")
            kind, value = parts
            if kind.content == _COMMON_NAME:
                if value.tag not in _ENCODINGS:
                    raise ValueError(f"the common name is no text but an element with tag {value.tag:#04x}")
                names.append(value.content.decode(_ENCODINGS[value.tag]))
    return names


def _granted(name: str, extensions: list[der.Element]) -> frozenset[Role]:
    try:
        values = _values(extensions)
        return parse_roles(values[_ROLES]) if _ROLES in values else frozenset()
    except ValueError as error:
        log.warning("the extensions of the certificate of %r grant no role: %s", name, error)
        return frozenset()


def _values(extensions: list[der.Element]) -> dict[bytes, bytes]:
    """Return the value of each extension by its identifier; ValueError if one is not as it must be."""
    values: dict[bytes, bytes] = {}
    for holder in extensions:
        for sequence in der.elements(holder.content):
            for extension in der.children(sequence, der.SEQUENCE):
                kind, *critical, value = der.children(extension, der.SEQUENCE)
                if [kind.tag, *(each.tag for each in critical), value.tag] not in _EXTENSION_TAGS:
                    raise ValueError("an extension is malformed")
                if kind.content in values:
                    raise ValueError("an extension is there twice")
                if der.decode(value.content).end != len(value.content):
                    raise ValueError("there is something behind the value of an extension")
                values[kind.content] = value.content
    return values
