"""The client's certificate as the server reads it: the subject's common names, and the extensions.

Read by hand, without the cryptography package: importing that raises the resident memory of the
server's imports by 25 % (34.0 to 42.5 MB on Python 3.11; docs/private-parts.md). TLS has verified the
certificate before. tests/unit/test_api_roles.py compares the result with that of cryptography.
Structure: RFC 5280, 4.1; encoding: DER, ITU-T X.690. Every function raises ValueError for anything else.
"""

from typing import NamedTuple

BOOLEAN = 0x01
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
SEQUENCE = 0x30
SET = 0x31

_COMMON_NAME = bytes.fromhex("550403")  # the object identifier 2.5.4.3 in DER
_TEXT_ENCODINGS = {UTF8_STRING: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_EXTENSION_TAGS = (
    [OBJECT_IDENTIFIER, OCTET_STRING],
    [OBJECT_IDENTIFIER, BOOLEAN, OCTET_STRING],
)
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # the context-specific tags [0] and [3]


class Element(NamedTuple):
    """One element: its tag and content, and the position of the next one."""

    tag: int
    content: bytes
    end: int


def subject_and_extensions(certificate: bytes) -> tuple[Element, list[Element]]:
    """Return the subject, and the element that holds the extensions, if there is one."""
    whole = decode(certificate)
    signed = children(whole, SEQUENCE)
    if whole.end != len(certificate) or len(signed) != 3:
        raise ValueError("not a certificate")
    # [0] version, serial number, algorithm, issuer, validity, subject, key, [1], [2], [3] extensions
    fields = children(signed[0], SEQUENCE)
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    if len(fields) < 6:
        raise ValueError("not a certificate")
    return fields[4], [field for field in fields[6:] if field.tag == _EXTENSIONS]


def common_names(subject: Element) -> list[str]:
    """Return all common names of a subject."""
    names = []
    for group in children(subject, SEQUENCE):
        for attribute in children(group, SET):
            parts = children(attribute, SEQUENCE)
            if len(parts) != 2:
                raise ValueError("an attribute of the subject is not a pair")
            kind, value = parts
            if kind.content == _COMMON_NAME:
                if value.tag not in _TEXT_ENCODINGS:
                    raise ValueError(f"the common name has tag {value.tag:#04x}, which is not text")
                names.append(value.content.decode(_TEXT_ENCODINGS[value.tag]))
    return names


def extension_values(holders: list[Element]) -> dict[bytes, bytes]:
    """Return the value of each extension by its object identifier in DER."""
    values: dict[bytes, bytes] = {}
    for holder in holders:
        for sequence in elements(holder.content):
            for extension in children(sequence, SEQUENCE):
                kind, *critical, value = children(extension, SEQUENCE)
                if [kind.tag, *(each.tag for each in critical), value.tag] not in _EXTENSION_TAGS:
                    raise ValueError("an extension is malformed")
                if kind.content in values:
                    raise ValueError("an extension occurs twice")
                if decode(value.content).end != len(value.content):
                    raise ValueError("there are bytes after the value of an extension")
                values[kind.content] = value.content
    return values


def encode(tag: int, content: bytes) -> bytes:
    """Return the only DER encoding of an element."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def decode(data: bytes, start: int = 0) -> Element:
    """Return the element that begins at ``start``."""
    if len(data) < start + 2:
        raise ValueError("an element is cut short")
    tag, size = data[start], data[start + 1]
    if tag & 0x1F == 0x1F:
        raise ValueError("a tag of several bytes")
    begin = start + 2
    if size >= 0x80:
        digits = size & 0x7F
        size = int.from_bytes(data[begin : begin + digits], "big")
        begin += digits
        # The first test also rejects the indefinite length, which only BER has.
        if size < 0x80 or digits != (size.bit_length() + 7) // 8:
            raise ValueError("a length that is not in its shortest form")
    if len(data) < begin + size:
        raise ValueError("an element is cut short")
    return Element(tag, data[begin : begin + size], begin + size)


def elements(data: bytes) -> list[Element]:
    """Return the elements that fill the data."""
    found: list[Element] = []
    start = 0
    while start < len(data):
        found.append(decode(data, start))
        start = found[-1].end
    return found


def children(element: Element, tag: int) -> list[Element]:
    """Return the elements inside one that must have this tag."""
    if element.tag != tag:
        raise ValueError(f"an element with tag {tag:#04x} is expected, not {element.tag:#04x}")
    return elements(element.content)
