"""The certificates of a worker: its own CA, and the certificates that this CA issues.

Files appear complete or not at all: ``init`` renames whole directories into place; a later certificate
is renamed after its key.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from .authority import (
    CA_DAYS,
    LEAF_DAYS,
    Authority,
    KeyType,
    common_name,
    for_client,
    for_server,
    is_server,
    load_authority,
    new_authority,
    new_key,
    server_names,
)
from .ca_key_path import key_path
from .certificate_files import (
    AuthorityExists,
    CertificateError,
    CertificateExists,
    PrivateKey,
    check_name,
    locked,
    replace_file,
    sync,
    write_certificate,
    write_file,
    write_key,
)
from .identity import serial_text
from .revoking import denied_in
from .roles import Role
from .x509_errors import as_value_errors

OnKey = Callable[[str], None]


def init(
    directory: Path,
    *,
    hosts: Collection[str] = (),
    key_type: KeyType = KeyType.RSA_4096,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> None:
    """Create a directory with the certificates of a CA, a server, a writer and a reader.

    The key of the CA is in ``ca`` beside it. ``hosts`` are names and addresses of the server in addition to
    localhost and the host's own name; ``on_key`` is called with the name of each key before it is
    generated, which may take seconds.
    Raises AuthorityExists, UnusableName, CertificateError and OSError, and then changes nothing.
    """
    on_key = on_key or _no_report
    names = server_names(hosts)
    _check_vacant(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        pki, ca = staging / "pki", staging / "ca"
        for each in (pki, ca):
            each.mkdir(mode=0o700)
        on_key("ca")
        authority = new_authority(key_type)
        write_key(ca / "ca.key", authority.key)
        write_certificate(pki / "ca.crt", authority.certificate)
        _issue(pki, authority, "server", [for_server(), names], key_type, days, on_key)
        for role in (Role.WRITER, Role.READER):
            _issue(pki, authority, role, for_client([role]), key_type, days, on_key)
        sync(pki)
        sync(ca)
        _publish(pki, ca, directory)
    finally:
        shutil.rmtree(staging)
    sync(directory.parent)


def _publish(pki: Path, ca: Path, directory: Path) -> None:
    """Rename both directories into place, or none; a rename replaces only an empty directory."""
    place = key_path(directory).parent
    try:
        ca.rename(place)
        try:
            pki.rename(directory)
        except OSError:
            place.rename(ca)
            raise
    except OSError:
        _check_vacant(directory)
        raise


def issue(
    directory: Path,
    name: str,
    roles: Collection[Role],
    *,
    request: bytes | None = None,
    key_type: KeyType = KeyType.RSA_4096,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> Path:
    """Create a client's certificate ``name``.crt and key ``name``.key; return the certificate's path.

    With a ``request`` (PEM) only the certificate is created, for the key in it; nothing else in it counts.
    Raises UnusableName, AuthorityMissing, CertificateExists, CertificateError and OSError, and then changes
    nothing.
    """
    check_name(name)
    return _issue_into(directory, name, for_client(roles), request, key_type, days, on_key)


def check_issuable(directory: Path, name: str) -> None:
    """Raise what ``issue`` would raise for a name: UnusableName, CertificateExists, AuthorityMissing."""
    check_name(name)
    _check_free([directory / f"{name}.{kind}" for kind in ("key", "crt")])
    load_authority(directory)


def issue_server(
    directory: Path,
    name: str = "server",
    *,
    hosts: Collection[str] = (),
    request: bytes | None = None,
    key_type: KeyType = KeyType.RSA_4096,
    days: int = LEAF_DAYS,
    on_key: OnKey | None = None,
) -> Path:
    """Create a server's certificate, as ``issue`` does for a client."""
    check_name(name)
    extensions = [for_server(), server_names(hosts)]
    return _issue_into(directory, name, extensions, request, key_type, days, on_key)


def request(
    directory: Path, name: str, *, key_type: KeyType = KeyType.RSA_4096, on_key: OnKey | None = None
) -> Path:
    """Create a key ``name``.key and a request for its certificate, ``name``.csr; return the latter's path.

    Raises UnusableName, CertificateExists and OSError, and then changes nothing.
    """
    check_name(name)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [directory / f"{name}.{kind}" for kind in ("key", "csr", "crt")]
    _check_free(paths)
    (on_key or _no_report)(name)
    key = new_key(key_type)
    with _staged(directory, name, paths) as staging:
        write_key(staging / f"{name}.key", key)
        write_file(staging / f"{name}.csr", signing_request(name, key), 0o644)
    return directory / f"{name}.csr"


def signing_request(name: str, key: PrivateKey) -> bytes:
    """Return a request for a certificate of this key, in PEM format."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(common_name(name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def renew(directory: Path, name: str, *, days: int | None = None, hosts: Collection[str] = ()) -> Path:
    """Replace ``name``.crt by one with later dates, of the same key, name, roles and hosts.

    ``ca`` renews the certificate of the CA; those that it has issued remain valid. ``days`` is the new
    validity, by default that of new certificates. ``hosts`` are added to the names of a server.
    Raises UnusableName, CertificateError, AuthorityMissing and OSError, and then changes nothing.
    """
    check_name(name)
    authority = load_authority(directory)
    path = directory / f"{name}.crt"
    with locked(directory):
        try:
            with as_value_errors():
                old = x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            raise CertificateError(f"there is no certificate {path}") from None
        except ValueError as error:
            raise CertificateError(f"{path} is not a certificate: {error}") from None
        if not _issued_by(old, authority):
            raise CertificateError(f"{path} was not issued by the CA in {directory}")
        if old.serial_number in denied_in(directory):
            raise CertificateError(f"{path} is denied (serial {serial_text(old.serial_number)})")
        if hosts and not is_server(old):
            raise CertificateError(f"{path} is not the certificate of a server, so it has no hosts")
        days = days or (CA_DAYS if name == "ca" else LEAF_DAYS)
        replace_file(path, authority.renew(old, days, hosts).public_bytes(Encoding.PEM))
    return path


def _issued_by(certificate: x509.Certificate, authority: Authority) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # noqa: BLE001 - of several kinds; whatever is wrong, it is not this CA's
        return False
    return True


def _issue_into(
    directory: Path,
    name: str,
    extensions: Sequence[x509.ExtensionType],
    request: bytes | None,
    key_type: KeyType,
    days: int,
    on_key: OnKey | None,
) -> Path:
    paths = [directory / f"{name}.{kind}" for kind in (("crt",) if request else ("key", "crt"))]
    _check_free(paths)
    authority = load_authority(directory)
    with _staged(directory, name, paths) as staging:
        if request is None:
            _issue(staging, authority, name, extensions, key_type, days, on_key or _no_report)
        else:
            certificate = authority.sign(name, _key_of(request), extensions, days)
            write_certificate(staging / f"{name}.crt", certificate)
    return directory / f"{name}.crt"


def _issue(
    directory: Path,
    authority: Authority,
    name: str,
    extensions: Sequence[x509.ExtensionType],
    key_type: KeyType,
    days: int,
    on_key: OnKey,
) -> None:
    on_key(name)
    key = new_key(key_type)
    write_key(directory / f"{name}.key", key)
    write_certificate(directory / f"{name}.crt", authority.sign(name, key.public_key(), extensions, days))


def _key_of(request: bytes) -> CertificatePublicKeyTypes:
    """Return the key in a request, whose sender has proved to have it."""
    try:
        with as_value_errors():
            parsed = x509.load_pem_x509_csr(request)
            key = parsed.public_key()
            signed = parsed.is_signature_valid
    except ValueError as error:
        raise CertificateError(f"the request cannot be read: {error}") from None
    if not signed:
        raise CertificateError("the request is not signed with its own key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 256:
        return key
    raise CertificateError("the key of the request is neither RSA of 2048 bits nor P-256, or better")


def _check_free(paths: Sequence[Path]) -> None:
    for path in reversed(paths):
        if os.path.lexists(path):
            raise CertificateExists(path)


@contextmanager
def _staged(directory: Path, name: str, paths: Sequence[Path]) -> Iterator[Path]:
    """Yield an empty directory; then move files from it into place, a key before its certificate.

    Raises CertificateExists if one of the ``paths`` exists by then.
    """
    staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=directory))
    try:
        yield staging
        with locked(directory):
            _check_free(paths)
            for path in paths:
                if (staging / path.name).exists():
                    (staging / path.name).rename(path)
            sync(directory)
    finally:
        shutil.rmtree(staging)


def _check_vacant(directory: Path) -> None:
    for path in (directory / "ca.crt", key_path(directory)):
        if os.path.lexists(path):
            raise AuthorityExists(path)
    if directory.exists() and any(directory.iterdir()):
        raise CertificateError(f"{directory} is not empty; certificates need their own directory")


def _no_report(_name: str) -> None:
    """Do nothing: the default for ``on_key``."""
