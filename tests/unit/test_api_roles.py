"""Roles: exactly those in the extension, and none if it is malformed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api import peer_certificate as der
from worker.api.roles import Right, Role, encode_roles, parse_roles

MALFORMED = [
    b"",
    b"writer",
    b"\x13\x06writer",
    b"\x0c\x06writer\0",
    b"\x0c\x07writer",
    b"\x0c\x81\x06writer",
    b"\x0c\x80writer\0\0",
    b"\x0c\x02\xff\xfe",
    b"\x0c\x00",
    der.encode(der.UTF8_STRING, b"admin"),
    der.encode(der.UTF8_STRING, b"writer,admin"),
    der.encode(der.UTF8_STRING, b"writer,"),
    der.encode(der.UTF8_STRING, b"Writer"),
    der.encode(der.UTF8_STRING, b" writer"),
    der.encode(der.UTF8_STRING, b"writer\0"),
    der.encode(0x30, der.encode(der.UTF8_STRING, b"writer")),
]


@pytest.mark.parametrize("roles", [{Role.READER}, {Role.WRITER}, {Role.READER, Role.WRITER}])
def test_roles_survive_the_round_trip(roles: set[Role]) -> None:
    """Encoded roles are parsed to the same roles."""
    assert roles == parse_roles(encode_roles(roles))


def test_the_extension_is_a_utf8_string() -> None:
    """The bytes are the same as those of other implementations."""
    assert b"\x0c\x0dreader,writer" == encode_roles([Role.WRITER, Role.READER])


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_extension_is_rejected(value: bytes) -> None:
    """Anything except a list of known roles in strict DER is rejected."""
    with pytest.raises(ValueError, match=r"."):
        parse_roles(value)


@given(value=st.binary(max_size=40))
def test_arbitrary_bytes_never_crash(value: bytes) -> None:
    """Random bytes are roles or a ValueError."""
    try:
        roles = parse_roles(value)
    except ValueError:
        return
    assert roles


def test_rights_of_the_roles() -> None:
    """A writer has all rights, a reader may only read."""
    rights = {role: set(role.rights) for role in Role}
    assert {Role.WRITER: set(Right), Role.READER: {Right.READ}} == rights
