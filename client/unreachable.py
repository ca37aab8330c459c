"""Why a connection to a server could not be made, and what to do about it, from the error of the system."""

import os
import ssl
from errno import ECONNREFUSED, EHOSTUNREACH, ENETUNREACH
from socket import gaierror

from .address import is_loopback

_CHECK_ADDRESS = "check the address (--server, WORKER_SERVER or the context)"
_OTHER_CA = "it is of another CA: select that CA (--ca, WORKER_CA, a context) if you know this server"
_RENEW = "on its machine, `worker certs renew server` renews it"

# X509_V_ERR_... of OpenSSL, include/openssl/x509_vfy.h
_OF_OTHER_CA = frozenset({2, 18, 19, 20, 21})
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})


def why_unreachable(error: OSError, host: str) -> str:
    """Return the reason, and after a semicolon the remedy."""
    if isinstance(error, ssl.SSLError):
        return _why_no_tls(error, host)
    # With several addresses asyncio joins the errors in one text.
    if error.errno == ECONNREFUSED or f"[Errno {ECONNREFUSED}]" in str(error):
        return f"connection refused; {_start_one(host)}"
    if isinstance(error, gaierror):
        return f"{error.strerror}; {_CHECK_ADDRESS}"
    if error.errno in (EHOSTUNREACH, ENETUNREACH):
        return f"{os.strerror(error.errno)}; {_CHECK_ADDRESS}"  # asyncio has a text of its own
    if isinstance(error, ConnectionError) and not str(error):  # asyncio raises these without an errno
        return "it closed the connection before it has answered; is it a worker server?"
    return error.strerror or str(error) or type(error).__name__


def _why_no_tls(error: ssl.SSLError, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
        return f"{reason}; {_certificate_remedy(error.verify_code, host)}"
    return f"the TLS handshake failed: {error.reason or error}; is it a worker server?"


def _start_one(host: str) -> str:
    if is_loopback(host):
        return "`worker up` starts a server"
    return f"no server listens there: `worker up --listen` on that machine starts one, or {_CHECK_ADDRESS}"


def _certificate_remedy(code: int, host: str) -> str:
    if code in _OTHER_NAME:
        return f"on its machine, `worker certs renew server --host {host}` adds this name"
    if code == _EXPIRED:
        return _RENEW
    if code == _NOT_YET_VALID:
        return "check the clocks of both machines"
    return _OTHER_CA if code in _OF_OTHER_CA else "the server needs another certificate"
