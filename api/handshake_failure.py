"""Why a TLS handshake with a client failed, in words."""

import ssl

_NOT_ISSUED = "its certificate was not issued by a CA that this server trusts"
_VERIFICATION = {  # X509_V_ERR_..., x509_vfy.h
    2: _NOT_ISSUED,
    7: _NOT_ISSUED,
    9: "its certificate, or that of its CA, is not yet valid",
    10: "its certificate, or that of its CA, has expired",
    18: _NOT_ISSUED,
    19: _NOT_ISSUED,
    20: _NOT_ISSUED,
    21: _NOT_ISSUED,
    # Each certificate of the chain needs the purpose; OpenSSL does not say which one, or which extension.
    26: "its certificate, or that of its CA, is not for clients (extended key usage without clientAuth, "
    "or key usage without digitalSignature)",
}
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has sent no certificate",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "NO_SHARED_CIPHER": "it has no cipher of TLS 1.3",
    "HTTP_REQUEST": "it speaks HTTP without TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the CA of the server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the server's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the server's certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the server's certificate is not for servers, it says",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server's certificate has expired, it says",
}


def handshake_failure(error: BaseException) -> str:
    """Return why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message.strip()
        known = _VERIFICATION.get(error.verify_code)
        return f"{known}: {message}" if known else f"its certificate is not accepted: {message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return _REASONS.get(reason) or f"the TLS handshake failed: {reason}"
    if isinstance(error, ConnectionError):
        return "it has closed the connection before the TLS handshake was complete"
    return f"the TLS handshake failed: {error}"
