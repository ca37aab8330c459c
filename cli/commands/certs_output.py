"""What the commands of `worker certs` print: progress, failures, and the files that they created."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ...api.authority import KeyType
from ...api.ca_key_path import key_path
from ...api.certificate_files import CertificateError
from ...api.tls import validity
from ..terminal.console import Failure, note, progress, say
from ..terminal.printed_objects import CertificateFilesObject, RequestFilesObject
from ..terminal.show import show_json

Found = TypeVar("Found")


def progress_of(kind: KeyType) -> Callable[[str], None]:
    """Return what reports that a key is being created: an RSA key takes seconds, so never silently."""
    if kind is KeyType.RSA_4096:
        return lambda what: note(f"creating an RSA key of 4096 bits for {what}, which takes seconds")
    return lambda what: progress(f"Creating P-256 keys: {what} ...")


@contextmanager
def failures() -> Iterator[None]:
    """Turn an error about certificates into a Failure."""
    try:
        yield
    except CertificateError as error:
        raise Failure(str(error)) from None


def read_named(pki: Path, name: str, read: Callable[[Path], Found]) -> Found:
    """Return what ``read`` finds in the certificate ``name`` of ``pki``, else in the file of this path.

    Raises Failure if there is neither, or if ``read`` raises OSError or ValueError.
    """
    path = pki / f"{name}.crt"
    if not path.exists():
        path = Path(name)
    try:
        return read(path)
    except FileNotFoundError:
        reason = f"there is no certificate {pki / name}.crt, nor a file {name}"
        raise Failure(reason, code="NOT_FOUND") from None
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"{path}: {error}") from None


def show_files(created: Sequence[Path], form: str | None) -> None:
    """Print certificates or requests, each with its key if that is here."""
    if form == "json":
        show_json([_entry(path) for path in created])
        return
    for path in created:
        key = _key_of(path)
        names = (
            f"{path} and {key.name if key.parent == path.parent else key}" if key.exists() else str(path)
        )
        say(names if path.suffix == ".csr" else f"{names}, valid until {validity(path)[1]:%Y-%m-%d}")


def _key_of(path: Path) -> Path:
    return key_path(path.parent) if path.stem == "ca" else path.with_suffix(".key")


def _entry(path: Path) -> CertificateFilesObject | RequestFilesObject:
    entry: CertificateFilesObject | RequestFilesObject
    if path.suffix == ".csr":
        entry = {"request": str(path)}
    else:
        entry = {"certificate": str(path), "expires": f"{validity(path)[1]:%Y-%m-%dT%H:%M:%SZ}"}
    key = _key_of(path)
    if key.exists():
        entry["key"] = str(key)
    return entry
