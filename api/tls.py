"""TLS for both sides: version 1.3, certificates on both sides, errors that name the file.

The client imports this, so it does not import the cryptography package: that would add 15 % to the
time of `worker query`.
"""

import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from .peer_certificate import fields
from .pem import certificates_in

_DER = 2  # _ssl.ENCODING_DER

WARNING_DAYS = 30
CRL_WARNING_DAYS = 7
"""Days before the end of a certificate or a CRL from which on server and doctor warn."""

_OF_ANOTHER_CERTIFICATE = frozenset(("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"))
"""Why OpenSSL rejects a key that is not of the certificate.

It keeps one pair for each type of key: of a key of another type it says that there is no certificate.
"""


class TlsSetupFailed(Exception):
    """A certificate or key cannot be used; the message names the file and the reason."""


class ClientContext(ssl.SSLContext):
    """A context that keeps the paths of its own certificate and of the CAs that it trusts."""

    certificate: Path
    authorities: Path


def server_context(*, authorities: Sequence[bytes], certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's context: it accepts only clients with a certificate of one of these CAs.

    ``authorities`` are their certificates in DER; ssl.SSLError and ValueError are about them. Raises
    TlsSetupFailed about the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the check of the client's certificate.
    context.num_tickets = 0
    _restrict(context)
    context.load_verify_locations(cadata=b"".join(authorities))
    _load_own(context, certificate, key)
    return context


def client_context(*, ca: Path, certificate: Path, key: Path) -> ClientContext:
    """Return the client's context: the server needs a certificate of ``ca`` for its name.

    Raises TlsSetupFailed.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.certificate = certificate
    context.authorities = ca
    _restrict(context)
    check_readable(ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise TlsSetupFailed(f"{ca} contains no certificate in PEM format") from None
    _load_own(context, certificate, key)
    return context


def verified_chain(connection: ssl.SSLObject) -> list[bytes]:
    """Return the chain of the peer in DER, as TLS has verified it: its own first, the trusted CA last."""
    if sys.version_info >= (3, 13):
        return connection.get_verified_chain()
    # private-parts.md
    return [each.public_bytes(_DER) for each in connection._sslobj.get_verified_chain()]  # type: ignore[attr-defined] # noqa: SLF001


def validity(certificate: Path) -> tuple[datetime, datetime]:
    """Return the first and the last moment at which the first certificate in a PEM file is valid.

    Raises OSError and ValueError.
    """
    found = fields(pem_certificates(certificate)[0])
    return datetime.fromtimestamp(found.not_before, UTC), datetime.fromtimestamp(found.not_after, UTC)


def pem_certificates(path: Path) -> list[bytes]:
    """Return the certificates in a file, in DER; at least one. Raises OSError and ValueError."""
    found = certificates_in(path.read_bytes())
    if not found:
        raise ValueError(f"{path} contains no certificate in PEM format")
    return found


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    # Each certificate among the CAs is trusted, also an intermediate one without the root above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for path in (certificate, key):
        check_readable(path)
    try:
        context.load_cert_chain(certificate, key, password=lambda: _reject_encrypted(key))
    except ssl.SSLError as error:
        if error.reason in _OF_ANOTHER_CERTIFICATE:
            raise TlsSetupFailed(
                f"the key {key} does not belong to the certificate {certificate}"
            ) from None
        raise TlsSetupFailed(f"{certificate} or {key} is not in PEM format") from None


def check_readable(path: Path) -> None:
    """Raise an error that names the file; those of ssl do not."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsSetupFailed(f"cannot read {path}: {error.strerror}") from error


def _reject_encrypted(key: Path) -> NoReturn:
    raise TlsSetupFailed(f"the key {key} is encrypted; a key without a passphrase is required")
