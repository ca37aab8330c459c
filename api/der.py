"""The little of DER (ITU-T X.690) that is needed without a library: elements, one after another."""

from typing import NamedTuple

BOOLEAN = 0x01
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
SEQUENCE = 0x30
SET = 0x31
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18


class Element(NamedTuple):
    """One element: its tag and content, and where in the data the next one begins."""

    tag: int
    content: bytes
    end: int


def encode(tag: int, content: bytes) -> bytes:
    """Return the one encoding that DER allows."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def decode(data: bytes, start: int = 0) -> Element:
    """Return the element that begins at ``start``; raise ValueError if it is cut short or not DER."""
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
        # The first test also refuses the indefinite length, which only BER has.
        if size < 0x80 or digits != (size.bit_length() + 7) // 8:
            raise ValueError("a length that is not in its shortest form")
    if len(data) < begin + size:
        raise ValueError("an element is cut short")
    return Element(tag, data[begin : begin + size], begin + size)


def elements(data: bytes) -> list[Element]:
    """Return all elements in the data, which they fill; raise ValueError as ``decode`` does."""
    found: list[Element] = []
    start = 0
    while start < len(data):
        found.append(decode(data, start))
        start = found[-1].end
    return found


def children(element: Element, tag: int) -> list[Element]:
    """Return the elements inside one that must have this tag; raise ValueError if it has another."""
    if element.tag != tag:
        raise ValueError(f"an element with tag {tag:#04x} is expected, not {element.tag:#04x}")
    return elements(element.content)
