"""Sets of certificates that tests create, and handshakes with them."""

import ssl
from pathlib import Path

from cryptography import x509

from worker.api import certificates
from worker.api.certificates import KeyType


def init(directory: Path, **arguments: object) -> None:
    """Create a set with P-256 keys, which are quick to generate."""
    certificates.init(directory, key_type=KeyType.P256, **arguments)  # type: ignore[arg-type]


def load(path: Path) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Perform a handshake in memory and return the server's end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1]


def strict(purpose: int, directory: Path, name: str) -> ssl.SSLContext:
    """Return a context that is as strict as the default of Python 3.13."""
    context = ssl.SSLContext(purpose)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(directory / "ca.crt")
    context.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
    return context
