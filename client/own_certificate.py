"""Why a server refuses this client's certificate, as far as the client can know.

A server that refuses it in the handshake sends a TLS alert, which may be lost. The client also checks its
own certificate.
"""

import ssl
from datetime import UTC, datetime

from ..api import peer_certificate as der
from ..api import tls
from ..api.trust import ChainCertificate, chain_certificate

_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "was not issued by a CA that the server trusts",
    "TLSV1_ALERT_DECRYPT_ERROR": "was not signed with the key of a CA that the server trusts",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "has expired, or that of its CA, says the server",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "is not valid, or not yet, says the server",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "is not for clients, or that of its CA, says the server",
}
_NOT_TRUSTED = frozenset(("", "TLSV1_ALERT_UNKNOWN_CA", "TLSV1_ALERT_DECRYPT_ERROR"))
"""Alerts that may mean that the server does not know the CA; empty: there was no alert."""

# Object identifiers in DER (RFC 5280, 4.2.1.3 and 4.2.1.12).
_KEY_USAGE = bytes.fromhex("551d0f")
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
_CLIENT_AUTH = bytes.fromhex("2b06010505070302")
_SIGNS_OR_AGREES = 0x88  # the bits digitalSignature and keyAgreement of the first byte

_UNKNOWN = "missing, expired, revoked or of another CA"


def why_refused(context: ssl.SSLContext, alert: BaseException | None) -> str:
    """Return the reason, with the path of the certificate; ``alert`` is how the connection ended."""
    reason = (alert.reason if isinstance(alert, ssl.SSLError) else None) or ""
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return "missing"
    if not isinstance(context, tls.ClientContext):
        return _UNKNOWN
    try:
        encoded = tls.pem_certificates(context.certificate)[0]
        own, unsuitable = chain_certificate(encoded), _not_for_clients(encoded)
        authorities = [chain_certificate(each) for each in tls.pem_certificates(context.authorities)]
    except (OSError, ValueError):
        return _UNKNOWN
    if invalid := _invalid_dates(own):
        return f"{context.certificate} {invalid}"
    if unsuitable:
        return f"{context.certificate} {unsuitable}"
    issuer = f"its issuer is {own.issuer!r}"
    if reason in _NOT_TRUSTED and all(each.subject != own.issuer for each in authorities):
        issuer += (
            f", which is not in {context.authorities}: "
            "that is right only if clients and servers have different CAs"
        )
    known = _ALERTS.get(reason)
    return f"{context.certificate} {known}; {issuer}" if known else f"{_UNKNOWN}; {issuer}"


def _not_for_clients(certificate: bytes) -> str | None:
    """Return why the purposes of a certificate exclude clients; None if they do not, or there are none."""
    extensions = der.extension_values(der.fields(certificate).extensions)
    if (purposes := extensions.get(_EXTENDED_KEY_USAGE)) is not None:
        listed = der.children(der.decode(purposes), der.SEQUENCE)
        if all(each.content != _CLIENT_AUTH for each in listed):
            return "is not for clients: its extended key usage does not contain clientAuth"
    if (usage := extensions.get(_KEY_USAGE)) is not None:
        _unused, *bits = der.decode(usage).content
        if not (bits and bits[0] & _SIGNS_OR_AGREES):
            return "is not for clients: its key usage does not contain digitalSignature"
    return None


def _invalid_dates(certificate: ChainCertificate) -> str | None:
    now = datetime.now(UTC)
    first = datetime.fromtimestamp(certificate.not_before, UTC)
    last = datetime.fromtimestamp(certificate.not_after, UTC)
    if now > last:
        return f"expired on {last:%Y-%m-%d}"
    if now < first:
        return f"is not valid before {first:%Y-%m-%d %H:%M} UTC"
    return None
