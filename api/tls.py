"""TLS for both sides: version 1.3, certificates on both sides, errors that name the file.

The client imports this, so it does not import the cryptography package: that would add 15 % to the
time of `worker query`.
"""

import ssl
from datetime import datetime
from pathlib import Path
from typing import NoReturn


class TlsSetupFailed(Exception):
    """A certificate or key cannot be used; the message names the file and the reason."""


class ClientContext(ssl.SSLContext):
    """A context that keeps the path of its own certificate."""

    certificate: Path


def server_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's context: it accepts only clients with a certificate of ``ca``.

    Raises TlsSetupFailed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the check of the client's certificate.
    context.num_tickets = 0
    _load(context, ca, certificate, key)
    return context


def client_context(*, ca: Path, certificate: Path, key: Path) -> ClientContext:
    """Return the client's context: the server needs a certificate of ``ca`` for its name.

    Raises TlsSetupFailed.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.certificate = certificate
    _load(context, ca, certificate, key)
    return context


def validity(certificate: Path) -> tuple[datetime, datetime]:
    """Return the first and the last moment at which the first certificate in a PEM file is valid.

    Raises OSError and ValueError.
    """
    from cryptography import x509  # noqa: PLC0415 - see above; few commands need this

    parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    return parsed.not_valid_before_utc, parsed.not_valid_after_utc


def _load(context: ssl.SSLContext, ca: Path, certificate: Path, key: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    for path in (ca, certificate, key):
        _check_readable(path)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise TlsSetupFailed(f"{ca} contains no certificate in PEM format") from None
    try:
        context.load_cert_chain(certificate, key, password=lambda: _reject_encrypted(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsSetupFailed(
                f"the key {key} does not belong to the certificate {certificate}"
            ) from None
        raise TlsSetupFailed(f"{certificate} or {key} is not in PEM format") from None


def _check_readable(path: Path) -> None:
    """Raise an error that names the file; those of ssl do not."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsSetupFailed(f"cannot read {path}: {error.strerror}") from error


def _reject_encrypted(key: Path) -> NoReturn:
    raise TlsSetupFailed(f"the key {key} is encrypted; a key without a passphrase is required")
