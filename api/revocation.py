"""Which certificates are revoked: CRLs of the CAs that have one, and a list of denied serials.

The signature of a CRL is verified when it is read. OpenSSL's own check is not used: with several CAs it
requires a CRL of each, and it does not look at connections that exist.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import peer_certificate as der

if TYPE_CHECKING:
    from cryptography import x509

_SERIAL = re.compile(r"(?:serial=)?([0-9a-fA-F]{1,2}(?::?[0-9a-fA-F]{2})*)")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL: the times of revocation by serial, all in seconds since the epoch."""

    issuer: str
    issued: int
    next_update: int
    revoked: Mapping[int, int]


def denied_in_file(data: bytes) -> frozenset[int]:
    """Return the serials in a file as ``denied_serials``; raise ValueError also if it may be incomplete.

    The beginning of a serial is a serial too, so the last line must have an end.
    """
    if data and not data.endswith(b"\n"):
        raise ValueError("its last line has no end (newline); the file may not be complete")
    return denied_serials(data.decode())


def denied_serials(text: str) -> frozenset[int]:
    """Return the serials in a list: hex, one a line; # begins a comment. Raises ValueError."""
    serials = set()
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            serials.add(parse_serial(content))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return frozenset(serials)


def parse_serial(text: str) -> int:
    """Return a serial from hex digits, with or without colons. Raises ValueError."""
    match = _SERIAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a serial in hex")
    return int(match[1].replace(":", ""), 16)


def revocation_lists(
    crls: Iterable[bytes], authorities: Sequence[bytes]
) -> Mapping[str, Sequence[RevocationList]]:
    """Return the CRLs by their issuer; of each key of a CA and each scope the newest one.

    Two CAs may have the same name, as after a change of the key: then the lists of both count.

    ``authorities`` are the certificates of CAs; CRLs and certificates are in DER. Raises ValueError for a
    CRL that cannot be read, of another CA, with a wrong signature, or of a kind that is not supported.
    """
    newest: dict[tuple[str, bytes, bytes], RevocationList] = {}
    for data in crls:
        found, key, scope = _revocation_list(data, authorities)
        known = newest.get((found.issuer, key, scope))
        if known is None or found.issued > known.issued:
            newest[found.issuer, key, scope] = found
    result: dict[str, list[RevocationList]] = {}
    for each in newest.values():
        result.setdefault(each.issuer, []).append(each)
    return result


def _revocation_list(data: bytes, authorities: Sequence[bytes]) -> tuple[RevocationList, bytes, bytes]:
    """Return a CRL, the key that has signed it, and its scope."""
    from .x509_errors import as_value_errors  # noqa: PLC0415 - 8 MB of memory, which few servers need

    with as_value_errors():
        return _parsed(data, authorities)


def _parsed(data: bytes, authorities: Sequence[bytes]) -> tuple[RevocationList, bytes, bytes]:
    from cryptography import x509  # noqa: PLC0415 - see above

    crl = x509.load_der_x509_crl(data)
    issuer = der.distinguished_name(der.decode(crl.issuer.public_bytes()))
    key = _verify(crl, issuer, authorities)
    if crl.next_update_utc is None:
        raise ValueError(f"the CRL of {issuer} does not state when the next one follows")
    revoked = {each.serial_number: int(each.revocation_date_utc.timestamp()) for each in crl}
    found = RevocationList(
        issuer, int(crl.last_update_utc.timestamp()), int(crl.next_update_utc.timestamp()), revoked
    )
    return found, key, _scope(crl, issuer)


def _verify(crl: "x509.CertificateRevocationList", issuer: str, authorities: Sequence[bytes]) -> bytes:
    """Return the public key that has signed a CRL, in DER; raise ValueError if none has."""
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    found = False
    for authority in authorities:
        if der.distinguished_name(der.fields(authority).subject) != issuer:
            continue
        found = True
        key = x509.load_der_x509_certificate(authority).public_key()
        kinds = (
            rsa.RSAPublicKey
            | ec.EllipticCurvePublicKey
            | ed25519.Ed25519PublicKey
            | ed448.Ed448PublicKey
            | dsa.DSAPublicKey
        )
        if isinstance(key, kinds) and crl.is_signature_valid(key):
            return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if found:
        raise ValueError(f"the CRL of {issuer} is not signed with the key of that CA")
    raise ValueError(f"there is a CRL of {issuer}, but no certificate of that CA")


def _scope(crl: "x509.CertificateRevocationList", issuer: str) -> bytes:
    """Return what the CRL covers; reject what would have to be combined with another CRL."""
    from cryptography import x509  # noqa: PLC0415 - see above

    scope = b""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.indirect_crl or value.only_some_reasons or value.only_contains_attribute_certs:
                raise ValueError(f"the CRL of {issuer} is indirect or partial, which is not supported")
            scope = value.public_bytes()
        elif extension.critical:
            raise ValueError(
                f"the CRL of {issuer} has the critical extension {extension.oid.dotted_string}, "
                "which is not supported"
            )
    return scope
