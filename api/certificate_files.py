"""Files with certificates and keys: they appear complete or not at all, and keys are private."""

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class CertificateError(Exception):
    """An operation on certificates failed; the message names the path."""


class AuthorityExists(CertificateError):
    """A CA already exists; it is never overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists; a CA is never overwritten")
        self.path = path


class AuthorityMissing(CertificateError):
    """The CA does not exist or cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot use the CA: {path}: {reason}")
        self.path = path


class CertificateExists(CertificateError):
    """A certificate with this name already exists."""

    def __init__(self, path: Path) -> None:
        replacing = "move the file away"
        if path.suffix == ".crt":  # moving this copy does not revoke the certificate
            replacing = (
                f"replace it: `worker certs revoke {shlex.quote(path.stem)}` first, then {replacing}"
            )
        super().__init__(f"{path} exists; choose another name, or {replacing}")
        self.path = path


class UnusableName(CertificateError):
    """A certificate cannot contain this name of a client or host."""


def check_name(name: str) -> None:
    """Reject names that are not a file name or a common name (at most 64 bytes of UTF-8 here)."""
    if (
        not 0 < len(name.encode(errors="surrogatepass")) <= 64
        or not name.isprintable()
        or "/" in name
        or name.startswith((".", "-"))
    ):
        raise UnusableName(f"{name!r} is not usable as the name of a certificate")


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Write a certificate to a new file."""
    write_file(path, certificate.public_bytes(Encoding.PEM), 0o644)


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a key to a new file with mode 0600, so that it is never readable by others."""
    write_file(path, key_text(key), 0o600)


def key_text(key: PrivateKey) -> bytes:
    """Return a key in PEM format, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a new file, and wait until it is on disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # the umask may have cleared bits
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that everyone may read, in place of an earlier one; readers see one or the other."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that was killed
    write_file(new, data, 0o644)
    new.rename(path)
    sync(path.parent)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory, so that one process at a time publishes certificates in it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync(directory: Path) -> None:
    """Wait until the names in a directory are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
