"""What a certificate file contains, for people."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from .identity import ClientCertificate, read_certificate
from .tls import pem_certificates
from .x509_errors import as_value_errors


@dataclass(frozen=True, slots=True)
class CertificateDetails:
    """A certificate: ``kind`` is ca, server, client or other; ``hosts`` are the names of a server."""

    path: Path
    certificate: ClientCertificate
    kind: str
    hosts: tuple[str, ...] = ()


def certificate_details(path: Path) -> CertificateDetails:
    """Return what the first certificate of a PEM file contains. Raises OSError and ValueError."""
    data = pem_certificates(path)[0]
    with as_value_errors():
        parsed = x509.load_der_x509_certificate(data)
        return CertificateDetails(path, read_certificate(data), _kind(parsed), tuple(_hosts(parsed)))


def _kind(certificate: x509.Certificate) -> str:
    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "ca"
    except x509.ExtensionNotFound:
        pass
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "other"
    if ExtendedKeyUsageOID.SERVER_AUTH in usage:
        return "server"
    return "client" if ExtendedKeyUsageOID.CLIENT_AUTH in usage else "other"


def _hosts(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each.value) for each in names if isinstance(each, x509.DNSName | x509.IPAddress)]
