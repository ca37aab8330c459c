"""Who calls: exactly what is in the certificate, and no right if it is malformed."""

from collections.abc import Sequence
from datetime import UTC, datetime

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
from worker.api.identity import (
    ANONYMOUS,
    ClientCertificate,
    Identity,
    peer_address,
    read_certificate,
    serial_text,
)
from worker.api.roles import ROLES_OID, Right, Role, encode_roles

ISSUER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the CA")])
BEGIN = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
END = datetime(2060, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def make_certificate(
    names: Sequence[str],
    *extensions: x509.ExtensionType,
    subject: Sequence[x509.NameAttribute] = (),
    issuer: x509.Name = ISSUER,
    serial: int = 1,
    end: datetime = END,
) -> bytes:
    """Return a DER certificate with these common names, extensions and further attributes."""
    common = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*common, *subject]))
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(BEGIN)
        .not_valid_after(end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def roles_extension(value: bytes) -> x509.UnrecognizedExtension:
    """Return the extension with this value, well-formed or not."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), value)


def identify(certificate: bytes) -> Identity:
    """Return the identity, without the issuer, which is the same in most of these tests."""
    found = read_certificate(certificate).identity
    assert found.issuer in {"CN=the CA", ""}
    return Identity(found.name, roles=found.roles)


@pytest.mark.parametrize("value", [b"", b"writer", der.encode(der.UTF8_STRING, b"writer,admin")])
def test_a_malformed_extension_gives_no_right(value: bytes) -> None:
    """The name is known, but it has no right."""
    identity = identify(make_certificate(["ann"], roles_extension(value)))
    assert Identity("ann") == identity
    assert not any(identity.may(right) for right in Right)


def test_nobody_has_a_right() -> None:
    """ANONYMOUS may do nothing, a reader may only read."""
    assert not any(ANONYMOUS.may(right) for right in Right)
    assert {Right.READ} == {
        right for right in Right if Identity("x", "", frozenset({Role.READER})).may(right)
    }


def test_the_common_name_is_the_identity() -> None:
    """Name and roles are those of the certificate."""
    certificate = make_certificate(["ann"], roles_extension(encode_roles([Role.READER])))
    assert Identity("ann", roles=frozenset({Role.READER})) == identify(certificate)


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
    damaged = READER[:position] + bytes([byte]) + READER[position + 1 :]
    assert read_certificate(damaged).identity.roles <= {Role.READER}


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
    assert Identity("ann", roles=frozenset({Role.READER})) == identify(once)
    assert Identity("ann") == identify(certificate)


CERTIFICATES = st.builds(
    make_certificate,
    st.just(["ann"]),
    serial=st.integers(1, 2**159 - 1),
    end=st.datetimes(datetime(2020, 6, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(certificate=CERTIFICATES)
def test_every_field_is_that_of_the_certificate(certificate: bytes) -> None:
    """Serial, fingerprint and times are those that the cryptography package reads."""
    expected = x509.load_der_x509_certificate(certificate)
    found = read_certificate(certificate)
    assert (
        ClientCertificate(
            Identity("ann", "CN=the CA"),
            expected.serial_number,
            expected.fingerprint(hashes.SHA256()).hex(),
            int(expected.not_valid_before_utc.timestamp()),
            int(expected.not_valid_after_utc.timestamp()),
        )
        == found
    )


@pytest.mark.parametrize(
    ("text", "serial"), [("00", 0), ("0a", 10), ("ff", 255), ("0100", 256), ("-01", -1)]
)
def test_a_serial_number_is_shown_in_whole_bytes(text: str, serial: int) -> None:
    """As OpenSSL shows it, in lower case; a malformed certificate may have a negative one."""
    assert text == serial_text(serial)


VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20) | st.text(
    '\\ #,+=;<>"', min_size=1, max_size=5
)
ATTRIBUTES = st.builds(
    x509.NameAttribute,
    st.sampled_from(
        [
            NameOID.COMMON_NAME,
            NameOID.ORGANIZATION_NAME,
            NameOID.STREET_ADDRESS,
            NameOID.DOMAIN_COMPONENT,
            NameOID.SERIAL_NUMBER,
            x509.ObjectIdentifier("2.999.4711.1"),
        ]
    ),
    VALUES,
    _type=st.just(_ASN1Type.UTF8String),
)
NAMES = st.builds(
    x509.Name,
    st.lists(
        st.builds(
            x509.RelativeDistinguishedName,
            st.lists(ATTRIBUTES, min_size=1, max_size=2, unique_by=lambda each: each.oid),
        ),
        min_size=1,
        max_size=4,
    ),
)


@given(name=NAMES)
def test_the_issuer_is_shown_as_rfc_4514_says(name: x509.Name) -> None:
    """The text is that of the cryptography package, and can be read back to the same name."""
    certificate = make_certificate(["ann"], issuer=name)
    expected = x509.load_der_x509_certificate(certificate).issuer.rfc4514_string()
    assert expected == read_certificate(certificate).identity.issuer
    assert sorted(map(hash, name.rdns)) == sorted(map(hash, x509.Name.from_rfc4514_string(expected).rdns))


def test_the_issuer_cannot_forge_a_line_of_a_log() -> None:
    """Control characters are escaped, and a value that is not text is shown in hex."""
    evil = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a\r\nb\x85\0")])
    assert (
        r"CN=a\0D\0Ab\C2\85\00" == read_certificate(make_certificate(["ann"], issuer=evil)).identity.issuer
    )
    pair = der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("550403")) + der.encode(der.UTF8_STRING, b"\xff")
    name = der.encode(der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, pair)))
    assert "CN=#0c01ff" == der.distinguished_name(der.decode(name))


@pytest.mark.parametrize(
    "text",
    [b"", b"250102030405", b"2501020304Z", b"250102030405+0100", b"251302030405Z", b"\xff50102030405Z"],
)
@pytest.mark.parametrize("tag", [der.UTC_TIME, der.GENERALIZED_TIME, der.UTF8_STRING])
def test_a_time_in_another_form_is_rejected(tag: int, text: bytes) -> None:
    """Only the forms of RFC 5280: UTC with seconds."""
    with pytest.raises(ValueError, match=r"."):
        der.seconds(der.decode(der.encode(tag, text)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("192.0.2.7:40000", ("192.0.2.7", 40000)),
        ("[2001:db8::1]:40000", ("2001:db8::1", 40000, 0, 0)),
        ("", None),
    ],
)
def test_the_address_of_a_peer_as_text(text: str, name: object) -> None:
    """The form that is used in URLs; a connection that is gone has none."""
    assert text == peer_address(name)
