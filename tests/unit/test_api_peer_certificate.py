"""DER elements: there is one encoding, and only that is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api import peer_certificate as der


@given(tag=st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F), content=st.binary(max_size=70_000))
def test_every_element_survives_the_round_trip(tag: int, content: bytes) -> None:
    """An encoded element is decoded to the same tag, content and end."""
    data = der.encode(tag, content)
    assert der.Element(tag, content, len(data)) == der.decode(data)


@given(data=st.binary(max_size=300))
def test_there_is_one_encoding_only(data: bytes) -> None:
    """Bytes that can be decoded are exactly the encoding of the result."""
    try:
        element = der.decode(data)
    except ValueError:
        return
    assert data[: element.end] == der.encode(element.tag, element.content)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0c",
        b"\x0c\x02a",
        b"\x0c\x80a\0\0",
        b"\x0c\x81\x01a",
        b"\x0c\x82\x00\x80" + b"a" * 128,
        b"\x0c\x81",
        b"\x0c\xff" + b"\xff" * 127,
        b"\x1f\x81\x01\x01a",
    ],
    ids=[
        "empty",
        "no length",
        "content cut short",
        "indefinite length",
        "long form of a short length",
        "length with a leading zero",
        "length cut short",
        "absurd length",
        "tag of several bytes",
    ],
)
def test_malformed_der_is_rejected(data: bytes) -> None:
    """Each way of being malformed is a ValueError."""
    with pytest.raises(ValueError, match=r"cut short|length|tag"):
        der.decode(data)
