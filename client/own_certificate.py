"""Why a server refuses this client's certificate, as far as the client can know.

A server that refuses it in the handshake sends a TLS alert, which may be lost. The client also checks its
own certificate.
"""

import ssl
from datetime import UTC, datetime

from ..api import tls
from ..api.trust import ChainCertificate, chain_certificate

_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "was not issued by a CA that the server trusts",
    "TLSV1_ALERT_DECRYPT_ERROR": "was not signed with the key of a CA that the server trusts",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "has expired, or that of its CA, says the server",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "is not valid, or not yet, says the server",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "is not for clients (extended key usage)",
}
_UNKNOWN = "missing, expired, revoked or of another CA"


def why_refused(context: ssl.SSLContext, alert: BaseException | None) -> str:
    """Return the reason, with the path of the certificate; ``alert`` is how the connection ended."""
    reason = (alert.reason if isinstance(alert, ssl.SSLError) else None) or ""
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return "missing"
    if not isinstance(context, tls.ClientContext):
        return _UNKNOWN
    try:
        own = chain_certificate(tls.pem_certificates(context.certificate)[0])
        authorities = [chain_certificate(each) for each in tls.pem_certificates(context.authorities)]
    except (OSError, ValueError):
        return _UNKNOWN
    if invalid := _invalid_dates(own):
        return f"{context.certificate} {invalid}"
    issuer = f"its issuer is {own.issuer!r}"
    if all(each.subject != own.issuer for each in authorities):
        issuer += f", which is not in {context.authorities}"
    known = _ALERTS.get(reason)
    return f"{context.certificate} {known}; {issuer}" if known else f"{_UNKNOWN}; {issuer}"


def _invalid_dates(certificate: ChainCertificate) -> str | None:
    now = datetime.now(UTC)
    first = datetime.fromtimestamp(certificate.not_before, UTC)
    last = datetime.fromtimestamp(certificate.not_after, UTC)
    if now > last:
        return f"expired on {last:%Y-%m-%d}"
    if now < first:
        return f"is not valid before {first:%Y-%m-%d %H:%M} UTC"
    return None
