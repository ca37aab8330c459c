"""The client's certificate as the server reads it: serial, issuer, validity, subject, extensions.

Read by hand, without the cryptography package: importing that raises the resident memory of the
server's imports by 25 % (34.0 to 42.5 MB on Python 3.11; private-parts.md). TLS has verified the
certificate before. tests/unit/test_api_identity.py compares the result with that of cryptography.
Structure: RFC 5280, 4.1; encoding: DER, ITU-T X.690. Every function raises ValueError for anything else.
"""

from datetime import UTC, datetime
from typing import NamedTuple

BOOLEAN = 0x01
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_COMMON_NAME = bytes.fromhex("550403")  # the object identifier 2.5.4.3 in DER
_TEXT_ENCODINGS = {UTF8_STRING: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_EXTENSION_TAGS = (
    [OBJECT_IDENTIFIER, OCTET_STRING],
    [OBJECT_IDENTIFIER, BOOLEAN, OCTET_STRING],
)
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # the context-specific tags [0] and [3]
_SHORT_NAMES = {  # RFC 4514, section 3
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}


class Element(NamedTuple):
    """One element: its tag and content, and the position of the next one."""

    tag: int
    content: bytes
    end: int


class Fields(NamedTuple):
    """The fields of a certificate that the server uses; the times are in seconds since the epoch."""

    serial: int
    issuer: Element
    not_before: int
    not_after: int
    subject: Element
    key: Element
    extensions: list[Element]


def fields(certificate: bytes) -> Fields:
    """Return the fields of a certificate in DER."""
    whole = decode(certificate)
    signed = children(whole, SEQUENCE)
    if whole.end != len(certificate) or len(signed) != 3:
        raise ValueError("not a certificate")
    # [0] version, serial number, algorithm, issuer, validity, subject, key, [1], [2], [3] extensions
    parts = children(signed[0], SEQUENCE)
    if parts and parts[0].tag == _VERSION:
        del parts[0]
    if len(parts) < 6:
        raise ValueError("not a certificate")
    serial, _algorithm, issuer, validity, subject, key, *rest = parts
    times = children(validity, SEQUENCE)
    if len(times) != 2 or serial.tag != INTEGER or not serial.content:
        raise ValueError("not a certificate")
    return Fields(
        serial=int.from_bytes(serial.content, "big", signed=True),
        issuer=issuer,
        not_before=seconds(times[0]),
        not_after=seconds(times[1]),
        subject=subject,
        key=key,
        extensions=[each for each in rest if each.tag == _EXTENSIONS],
    )


def seconds(time: Element) -> int:
    """Return a time in seconds since the epoch. RFC 5280 permits one form of each of the two types."""
    text = time.content.decode("ascii")
    if time.tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif time.tag != GENERALIZED_TIME:
        raise ValueError(f"a time is expected, not an element with tag {time.tag:#04x}")
    if len(text) != 15 or not text[:14].isdecimal() or text[14] != "Z":
        raise ValueError(f"{text!r} is not a time")
    year, (month, day, hour, minute, second) = (
        int(text[:4]),
        (int(text[i : i + 2]) for i in range(4, 14, 2)),
    )
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


def distinguished_name(name: Element) -> str:
    """Return a name as text (RFC 4514); two names with the same text have the same attributes.

    Control characters are escaped, and a value that is not text is written in hex.
    """
    groups = []
    for group in reversed(children(name, SEQUENCE)):
        attributes = [children(attribute, SEQUENCE) for attribute in children(group, SET)]
        if not all(len(pair) == 2 and pair[0].tag == OBJECT_IDENTIFIER for pair in attributes):
            raise ValueError("an attribute of a name is not a pair")
        groups.append("+".join(f"{_attribute(kind)}={_value(value)}" for kind, value in attributes))
    return ",".join(groups)


def _attribute(kind: Element) -> str:
    dotted = _dotted(kind.content)
    return _SHORT_NAMES.get(dotted, dotted)


def _dotted(identifier: bytes) -> str:
    """Return an object identifier in its usual form."""
    if not identifier or identifier[-1] & 0x80:
        raise ValueError("an object identifier is cut short")
    numbers = [0]
    for byte in identifier:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:-1]]))


def _value(value: Element) -> str:
    try:
        text = value.content.decode(_TEXT_ENCODINGS[value.tag])
    except (KeyError, UnicodeDecodeError):
        return "#" + encode(value.tag, value.content).hex()
    escaped = "".join(_escaped(character) for character in text)
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    if text.endswith(" ") and len(text) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped


def _escaped(character: str) -> str:
    if character in '\\"+,;<>':
        return "\\" + character
    if character < " " or "\x7f" <= character < "\xa0":
        return "".join(f"\\{byte:02X}" for byte in character.encode())
    return character


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
