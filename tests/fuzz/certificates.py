"""Fuzz certificates, CRLs, requests, keys and serials: any bytes are read, or the documented error.

The first byte of an input chooses what the rest is. Parts that a CA or a client signs are signed here, so
that what follows the check of the signature is reached.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from time import time

import atheris

with atheris.instrument_imports(include=["worker.api", "worker.client"]):
    from worker.api import certificates, revoking
    from worker.api.authority import KeyType, load_authority
    from worker.api.certificate_details import certificate_details
    from worker.api.certificate_files import AuthorityMissing, CertificateError
    from worker.api.client_check import ClientCheck
    from worker.api.identity import read_certificate
    from worker.api.refusal_log import RefusalLog
    from worker.api.revocation import revocation_lists
    from worker.api.server_tls import ServerTls, TlsFiles
    from worker.api.tls import TlsSetupFailed, client_context
    from worker.api.trust import Trust, chain_certificate
    from worker.client import own_certificate

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ..support.authorities import TestCA, pem, signed_content
from .fuzzing import fuzz

MEMORY = Path("/dev/shm")
DIRECTORY = Path(mkdtemp(prefix="worker-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
CA = TestCA("ca", key=ec.derive_private_key(7, ec.SECP256R1()))  # the same in each run
CLIENT, SERVER, OTHER_CA = CA.client("ci"), CA.server(), TestCA("below", CA)
TRUST = Trust([chain_certificate(CA.issued.der)])


class Connection:
    """What a check of a client asks of TLS."""

    def __init__(self, certificate: bytes) -> None:
        self._chain = [certificate, CA.issued.der]

    @property
    def _sslobj(self) -> "Connection":
        return self

    def getpeercert(self, *, binary_form: bool) -> bytes:
        """Return the client's certificate."""
        assert binary_form
        return self._chain[0]

    def get_verified_chain(self) -> "list[Der]":
        """Return the client's certificate and that of the CA."""
        return [Der(each) for each in self._chain]


class Der(bytes):
    """A certificate of a chain."""

    def public_bytes(self, _encoding: int) -> bytes:
        """Return it in DER."""
        return self


def client(data: bytes) -> None:
    """A client's certificate, which TLS has verified."""
    read_certificate(data)
    check = ClientCheck(Connection(data), ("192.0.2.1", 1), lambda: TRUST, RefusalLog())  # type: ignore[arg-type]
    check.refusal()


def client_of_the_ca(data: bytes) -> None:
    """A client's certificate that the CA has signed."""
    client(CA.sign(data))


def crl(data: bytes) -> None:
    """A CRL that the CA has signed."""
    try:
        found = revocation_lists([CA.sign(data)], [CA.issued.der])
    except ValueError:
        return
    Trust(TRUST.authorities, found).standing([chain_certificate(CLIENT.der), *TRUST.authorities], time())


def server_files(data: bytes) -> None:
    """A file that the server reads: the second byte chooses which one."""
    paths = {name: DIRECTORY / f"server-{name}" for name in ("ca", "certificate", "key", "crl", "denied")}
    chosen = list(paths)[data[0] % len(paths)] if data else "ca"
    for name, path in paths.items():
        path.write_bytes(data[1:] if name == chosen else CONTENTS[name])
    try:
        tls = ServerTls(lambda: TlsFiles(*paths.values()))
    except TlsSetupFailed:
        return
    for each in tls.expiries:
        each.warning(time())


def own(data: bytes) -> None:
    """A client's own certificate or the CAs that it trusts."""
    ca, certificate = DIRECTORY / "own-ca.crt", DIRECTORY / "own.crt"
    ca.write_bytes(data[1:] if data[:1] == b"0" else CA.issued.pem)
    certificate.write_bytes(CLIENT.pem if data[:1] == b"0" else data[1:])
    try:
        context = client_context(ca=ca, certificate=certificate, key=DIRECTORY / "client.key")
    except TlsSetupFailed:
        return
    own_certificate.why_refused(context, None)


def details(data: bytes) -> None:
    """A certificate that is shown."""
    path = DIRECTORY / "shown.crt"
    path.write_bytes(pem("CERTIFICATE", data))
    try:
        certificate_details(path)
    except ValueError:
        return


def details_of_signed(data: bytes) -> None:
    """A certificate of the CA that is shown."""
    details(CA.sign(data))


def authority(data: bytes) -> None:
    """The certificate of the CA, or its key."""
    home = DIRECTORY / "authority"
    (home / "ca.crt").write_bytes(
        pem("CERTIFICATE", CA.sign(data[1:])) if data[:1] == b"0" else CA.issued.pem
    )
    (home / "ca.key").write_bytes((DIRECTORY / "ca.key").read_bytes() if data[:1] == b"0" else data[1:])
    try:
        load_authority(home)
    except AuthorityMissing:
        return
    issue(home)


def issue(home: Path) -> None:
    """Issue, renew and revoke with a CA that can be used."""
    (home / "ci.crt").unlink(missing_ok=True)
    try:
        certificates.issue(home, "ci", [], request=REQUEST)
        certificates.renew(home, "ci")
        certificates.renew(home, "ca")
        revoking.write_crl(home)
    except CertificateError:
        return


def request(data: bytes) -> None:
    """A request that is signed with its own key."""
    try:
        certificates._key_of(pem("CERTIFICATE REQUEST", CA.sign(data)))
    except CertificateError:
        return


def renewal(data: bytes) -> None:
    """A certificate of the CA that is renewed."""
    home = DIRECTORY / "renewal"
    (home / "ci.crt").write_bytes(pem("CERTIFICATE", CA.sign(data)))
    try:
        certificates.renew(home, "ci")
    except CertificateError:
        return


def continued_crl(data: bytes) -> None:
    """A CRL that is continued."""
    home = DIRECTORY / "renewal"
    (home / "ca.crl").write_bytes(pem("X509 CRL", CA.sign(data)))
    try:
        revoking.write_crl(home)
    except CertificateError:
        return


def denied(data: bytes) -> None:
    """A list of denied serials, which becomes a CRL."""
    home = DIRECTORY / "denied"
    (home / "ca.crl").unlink(missing_ok=True)
    (home / "denied").write_bytes(data)
    try:
        revoking.write_crl(home)
        revoking.revoke(home, [(1, "ci")])
    except CertificateError:
        return


TARGETS: Sequence[Callable[[bytes], None]] = (
    *(client, client_of_the_ca, crl, server_files, own, details, details_of_signed),
    *(authority, request, renewal, continued_crl, denied),
)


def one(data: bytes) -> None:
    """Read one input."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def made_request() -> bytes:
    """Return a request for the key of the CA, which signs requests here."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(CA.name)
    return builder.sign(CA.issued.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def seeds() -> list[bytes]:
    """Return an input for each target, and of each kind of file."""
    real = DIRECTORY / "real" / "pki"
    certificates.init(real, key_type=KeyType.P256)
    revoking.write_crl(real)
    issued = [x509.load_pem_x509_certificate(each.read_bytes()) for each in sorted(real.glob("*.crt"))]
    whole = [each.public_bytes(Encoding.DER) for each in issued] + [
        CLIENT.der,
        SERVER.der,
        OTHER_CA.issued.der,
    ]
    crls = [x509.load_pem_x509_crl(each) for each in ((real / "ca.crl").read_bytes(), CA.crl([CLIENT]))]
    found = {
        client: whole,
        client_of_the_ca: [signed_content(each) for each in whole],
        crl: [each.tbs_certlist_bytes for each in crls],
        server_files: [bytes([n]) + each for n, each in enumerate(CONTENTS.values())],
        own: [b"1" + CLIENT.pem, b"0" + CA.issued.pem],
        details: whole,
        details_of_signed: [signed_content(each) for each in whole],
        authority: [b"0" + signed_content(CA.issued.der), b"1" + (DIRECTORY / "ca.key").read_bytes()],
        request: [signed_content(x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER))],
        renewal: [signed_content(each) for each in whole],
        denied: [CONTENTS["denied"], b"00\n" + b"ff" * 20],
        continued_crl: [each.tbs_certlist_bytes for each in crls],
    }
    return [bytes([TARGETS.index(target)]) + each for target, inputs in found.items() for each in inputs]


CA.issued.write(DIRECTORY, "ca")
CLIENT.write(DIRECTORY, "client")
SERVER.write(DIRECTORY, "server")
for each in ("authority", "renewal", "denied"):
    CA.issued.write(DIRECTORY / each, "ca")
REQUEST = made_request()
CONTENTS = {
    "ca": CA.issued.pem,
    "certificate": SERVER.pem,
    "key": (DIRECTORY / "server.key").read_bytes(),
    "crl": CA.crl([CLIENT]),
    "denied": b"# nobody\nserial=0A1B\n0a:1b # ci\n",
}

if __name__ == "__main__":
    fuzz("certificates", one, seeds())
