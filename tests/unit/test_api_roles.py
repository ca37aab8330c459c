"""Roles and identities: exactly those in the certificate, and none if it is malformed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from worker.api import peer_certificate as der
from worker.api.roles import (
    ANONYMOUS,
    ROLES_OID,
    Identity,
    Right,
    Role,
    encode_roles,
    identify,
    parse_roles,
)

KEY = ec.generate_private_key(ec.SECP256R1())


def make_certificate(
    names: Sequence[str], *extensions: x509.ExtensionType, subject: Sequence[x509.NameAttribute] = ()
) -> bytes:
    """Return a DER certificate with these common names, extensions and further attributes."""
    common = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    whole = x509.Name([*common, *subject])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(whole)
        .issuer_name(whole)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def roles_extension(value: bytes) -> x509.UnrecognizedExtension:
    """Return the extension with this value, well-formed or not."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), value)


@pytest.mark.parametrize("roles", [{Role.READER}, {Role.WRITER}, {Role.READER, Role.WRITER}])
def test_roles_survive_the_round_trip(roles: set[Role]) -> None:
    """Encoded roles are parsed to the same roles."""
    assert roles == parse_roles(encode_roles(roles))


def test_the_extension_is_a_utf8_string() -> None:
    """The bytes are the same as those of other implementations."""
    assert b"\x0c\x0dreader,writer" == encode_roles([Role.WRITER, Role.READER])


@pytest.mark.parametrize(
    "value",
    [
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
    ],
)
def test_a_malformed_extension_gives_no_right(value: bytes) -> None:
    """Anything except a list of known roles in strict DER is rejected and grants no right."""
    with pytest.raises(ValueError, match=r"."):
        parse_roles(value)
    identity = identify(make_certificate(["ann"], roles_extension(value)))
    assert Identity("ann") == identity
    assert not any(identity.may(right) for right in Right)


@given(value=st.binary(max_size=40))
def test_arbitrary_bytes_never_crash(value: bytes) -> None:
    """Random bytes are roles or a ValueError."""
    try:
        roles = parse_roles(value)
    except ValueError:
        return
    assert roles


def test_rights_of_the_roles() -> None:
    """A writer has all rights, a reader may only read, ANONYMOUS has no right."""
    rights = {
        role: {right for right in Right if Identity("x", frozenset({role})).may(right)} for role in Role
    }
    every = {Right.READ, Right.WRITE, Right.ATTACH}
    assert {Role.WRITER: every, Role.READER: {Right.READ}} == rights
    assert not any(ANONYMOUS.may(right) for right in Right)


def test_the_common_name_is_the_identity() -> None:
    """Name and roles are those of the certificate."""
    certificate = make_certificate(["ann"], roles_extension(encode_roles([Role.READER])))
    assert Identity("ann", frozenset({Role.READER})) == identify(certificate)


def test_a_certificate_without_roles_gives_no_right() -> None:
    """The name is known, but it has no right."""
    assert Identity("ann") == identify(make_certificate(["ann"]))


@pytest.mark.parametrize("names", [[], ["ann", "bob"]])
def test_a_missing_or_ambiguous_name_gives_no_right(names: list[str]) -> None:
    """Roles without exactly one name give no right."""
    assert ANONYMOUS == identify(make_certificate(names, roles_extension(encode_roles([Role.WRITER]))))


def test_another_malformed_extension_removes_the_roles() -> None:
    """A certificate that cannot be read completely grants nothing."""
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\xff\xff")
    certificate = make_certificate(["ann"], roles_extension(encode_roles([Role.WRITER])), broken)
    assert Identity("ann") == identify(certificate)


@given(data=st.binary(max_size=200))
def test_bytes_that_are_not_a_certificate_give_no_right(data: bytes) -> None:
    """No input makes the parser raise."""
    assert ANONYMOUS == identify(data)


READER = make_certificate(["ann"], roles_extension(encode_roles([Role.READER])))


@given(position=st.integers(0, len(READER) - 1), byte=st.integers(0, 255))
def test_damaged_certificates_never_crash_nor_grant_more(position: int, byte: int) -> None:
    """With any one byte changed, the client does not become a writer."""
    assert identify(READER[:position] + bytes([byte]) + READER[position + 1 :]).roles <= {Role.READER}


@pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.BMPString])
def test_the_name_may_be_any_kind_of_text(kind: _ASN1Type) -> None:
    """Other tools write these; the result is that of the cryptography package."""
    name = x509.NameAttribute(NameOID.COMMON_NAME, "ann", _type=kind)
    certificate = make_certificate([], roles_extension(encode_roles([Role.READER])), subject=[name])
    shown = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [identify(certificate).name] == [each.value for each in shown]


def test_a_repeated_extension_grants_nothing() -> None:
    """Two lists of roles are ambiguous."""
    once = make_certificate(["ann"], roles_extension(encode_roles([Role.READER])))
    extension = der.encode(
        der.SEQUENCE,
        der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce560801"))
        + der.encode(der.OCTET_STRING, encode_roles([Role.READER])),
    )
    signed = der.children(der.decode(once), der.SEQUENCE)
    fields = der.children(signed[0], der.SEQUENCE)
    twice = der.encode(fields[-1].tag, der.encode(der.SEQUENCE, extension * 2))
    kept = b"".join(der.encode(each.tag, each.content) for each in fields[:-1])
    rest = b"".join(der.encode(each.tag, each.content) for each in signed[1:])
    certificate = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, kept + twice) + rest)
    assert Identity("ann", frozenset({Role.READER})) == identify(once)
    assert Identity("ann") == identify(certificate)
