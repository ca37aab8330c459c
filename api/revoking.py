"""Revoking certificates: serials are added to the list of denied ones, and to the CRL if there is one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from .authority import load_authority
from .certificate_files import CertificateError, locked, replace_file
from .identity import serial_text
from .revocation import denied_serials
from .x509_errors import as_value_errors

CRL_DAYS = 30

_HEAD = b"# Serials of certificates that the server denies, one a line, in hex.\n"


def revoke(directory: Path, serials: Sequence[tuple[int, str]], *, days: int = CRL_DAYS) -> list[Path]:
    """Deny certificates by serial, each with a comment; return the files that were changed.

    If there is a CRL, it is replaced by one that contains them, and is valid for so many days.
    Raises CertificateError, AuthorityMissing and OSError.
    """
    path = directory / "denied"
    with locked(directory):
        text = path.read_bytes() if path.exists() else _HEAD
        known = _denied(path, text)
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        added = [f"{serial_text(each)}  # {what}, {today}\n" for each, what in serials if each not in known]
        if added:
            text += b"" if text.endswith(b"\n") or not text else b"\n"
            replace_file(path, text + "".join(added).encode())
        changed = [path] if added else []
        if (directory / "ca.crl").exists():
            changed.append(_write_crl(directory, days))
    return changed


def write_crl(directory: Path, *, days: int = CRL_DAYS) -> Path:
    """Create the CRL, or replace it by a newer one; it contains every serial that is denied."""
    with locked(directory):
        return _write_crl(directory, days)


def _write_crl(directory: Path, days: int) -> Path:
    authority = load_authority(directory)
    path = directory / "ca.crl"
    now = datetime.now(UTC).replace(microsecond=0)
    revoked: dict[int, datetime] = {}
    number = 1
    if path.exists():
        try:
            with as_value_errors():
                before = x509.load_pem_x509_crl(path.read_bytes())
                revoked = {each.serial_number: each.revocation_date_utc for each in before}
                number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        except ValueError as error:
            raise CertificateError(f"{path} cannot be continued: {error}") from None
    for serial in denied_in(directory):
        revoked.setdefault(serial, now)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    for serial, when in sorted(revoked.items()):
        try:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        except ValueError as error:
            raise CertificateError(
                f"the serial {serial_text(serial)} cannot be in a CRL: {error}"
            ) from None
        builder = builder.add_revoked_certificate(entry.build())
    replace_file(path, builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def denied_in(directory: Path) -> frozenset[int]:
    """Return the list of denied serials, empty if there is none. Raises CertificateError."""
    path = directory / "denied"
    return _denied(path, path.read_bytes()) if path.exists() else frozenset()


def _denied(path: Path, text: bytes) -> frozenset[int]:
    try:
        return denied_serials(text.decode())
    except ValueError as error:
        raise CertificateError(f"{path}: {error}") from None
