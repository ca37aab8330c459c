"""TLS as both sides use it: version 1.3, certificates on both sides, errors that name the file.

The client loads this, so it does without the cryptography package.
"""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from . import der


class TlsSetupFailed(Exception):
    """A certificate or key cannot be used; the message names the file and says why."""


class ClientContext(ssl.SSLContext):
    """A context that remembers which certificate it shows."""

    certificate: Path


def server_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's side: only clients with a certificate of ``ca`` get in.

    Raises TlsSetupFailed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the look at the client's certificate.
    context.num_tickets = 0
    _load(context, ca, certificate, key)
    return context


def client_context(*, ca: Path, certificate: Path, key: Path) -> ClientContext:
    """Return the client's side: the server must have a certificate of ``ca`` for its name.

    Raises TlsSetupFailed.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.certificate = certificate
    _load(context, ca, certificate, key)
    return context


def validity(certificate: Path) -> tuple[datetime, datetime]:
    """Return the first and the last moment at which the certificate in a PEM file is valid.

    Raises OSError and ValueError.
    """
    outer = der.decode(ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text("ascii"))))
    fields = der.elements(der.decode(outer.content).content)
    # TBSCertificate, RFC 5280 4.1: [0] version, serial, algorithm, issuer, validity, ...
    if len(fields) < 5:
        raise ValueError("not a certificate")
    position = 3 if fields[0].tag == der.INTEGER else 4
    first, last = der.elements(fields[position].content)
    return _time(first), _time(last)


def _load(context: ssl.SSLContext, ca: Path, certificate: Path, key: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    for path in (ca, certificate, key):
        _check_readable(path)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise TlsSetupFailed(f"{ca} holds no certificate in PEM form") from None
    try:
        context.load_cert_chain(certificate, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsSetupFailed(
                f"the key {key} does not belong to the certificate {certificate}"
            ) from None
        raise TlsSetupFailed(f"{certificate} or {key} is not in PEM form") from None


def _check_readable(path: Path) -> None:
    """Say which file it is; ssl does not."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsSetupFailed(f"cannot read {path}: {error.strerror}") from error


def _refuse_encrypted(key: Path) -> NoReturn:
    raise TlsSetupFailed(f"the key {key} is encrypted; a key without a passphrase is needed")


def _first_certificate(pem: str) -> str:
    head, foot = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = pem.index(head)
    return pem[start : pem.index(foot, start) + len(foot)]


def _time(element: der.Element) -> datetime:
    text = element.content.decode("ascii")
    if element.tag == der.UTC_TIME:  # RFC 5280 4.1.2.5.1: two digits, 50 to 99 are of the last century
        text = ("19" if text >= "50" else "20") + text
    elif element.tag != der.GENERALIZED_TIME:
        raise ValueError(f"a time is expected, not an element with tag {element.tag:#04x}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
