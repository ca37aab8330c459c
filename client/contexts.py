"""Contexts: named servers with the keys for them, of this user, beside the server of WORKER_HOME.

    $XDG_CONFIG_HOME/worker/contexts/   or ~/.config/worker/contexts
        current                         the name of the current context
        NAME/                           mode 0700, its files 0600
            servers                     HOST:PORT, one a line; the first one is used
            ca.crt                      the CA of the servers
            client.crt client.key       the certificate of the client, and its key

All functions raise SettingsError.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .address import Address, parse_address
from .errors import SettingsError
from .home import base_directory

DEFAULT = "default"
"""The name for the server of WORKER_HOME, with the keys there; it is no context that can be changed."""

_CURRENT = "current"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Context:
    """A context, and where its files are."""

    name: str
    directory: Path
    servers: Sequence[Address]

    @property
    def server(self) -> Address:
        """The address to connect to."""
        if not self.servers:
            raise SettingsError(f"context {self.name} has no server; add one to {self.directory}/servers")
        return self.servers[0]

    @property
    def ca(self) -> Path:
        """The CA of the servers."""
        return self.directory / "ca.crt"

    @property
    def own(self) -> tuple[Path, Path]:
        """The certificate of the client, and its key."""
        return self.directory / "client.crt", self.directory / "client.key"


def add(
    name: str,
    servers: Sequence[Address | str],
    ca: bytes,
    certificate: bytes,
    key: bytes,
    *,
    force: bool = False,
) -> Context:
    """Create a context from the contents of its files in PEM format; with ``force`` also an existing one.

    Nothing is changed if an address or a file is not valid, or if the key is not that of the certificate.
    """
    _check_name(name)
    addresses = [_parse(name, each) for each in servers]
    if not addresses:
        raise SettingsError(f"context {name} needs a server")
    if not force:
        check_vacant(name)
    directory = _directory(name)
    files = {
        "servers": "".join(f"{each}\n" for each in addresses).encode(),
        "ca.crt": ca,
        "client.crt": certificate,
        "client.key": key,
    }
    make_directory()
    with _failures():
        new = _temporary(directory.parent)
        try:
            for file, content in files.items():
                _write(new / file, content)
            _check_files(name, Context(name, new, addresses))
            _put_in_place(new, directory)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return Context(name, directory, addresses)


def check_vacant(name: str) -> None:
    """Raise SettingsError if there is such a context already, or cannot be."""
    _check_name(name)
    if os.path.lexists(_directory(name)):
        raise SettingsError(f"the context {name} exists; choose another name, or replace it with --force")


def make_directory() -> None:
    """Create the directory of all contexts."""
    with _failures():
        _directory_of_all().mkdir(mode=0o700, parents=True, exist_ok=True)


def names() -> list[str]:
    """Return the names of all contexts except DEFAULT, in alphabetical order."""
    try:
        found = os.listdir(_directory_of_all())
        return sorted(each for each in found if each != _CURRENT and _NAME.fullmatch(each))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _cannot_read(_directory_of_all(), error) from None


def load(name: str) -> Context:
    """Return a context other than DEFAULT."""
    _check_name(name)
    directory = _directory(name)
    try:
        text = (directory / "servers").read_text()
    except FileNotFoundError:
        raise _unknown(name) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_read(directory / "servers", error) from None
    return Context(name, directory, [_parse(name, line) for line in text.splitlines() if line])


def current() -> str:
    """Return the name of the current context: that of the last `use`, or DEFAULT.

    A user without a home directory has no context, nor has one whose HOME is that of another user.
    """
    try:
        return _current_file().read_text().strip() or DEFAULT
    except (FileNotFoundError, PermissionError, NotADirectoryError, _NoHome):
        return DEFAULT
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_read(_current_file(), error) from None


def use(name: str) -> None:
    """Make a context the current one, of all programs of this user."""
    if name != DEFAULT:
        load(name)
    path = _current_file()
    make_directory()
    with _failures():
        new = path.with_name(f".{_CURRENT}.{os.getpid()}")
        new.unlink(missing_ok=True)
        _write(new, f"{name}\n".encode())
        new.replace(path)


def remove(name: str) -> None:
    """Remove a context with its keys; not the current one."""
    _check_name(name)
    if not _directory(name).is_dir():
        raise _unknown(name)
    if current() == name:
        raise SettingsError(
            f"{name} is the current context; leave it first: `worker context use {DEFAULT}`"
        )
    with _failures():
        _discard(_directory(name))


class _NoHome(SettingsError):
    """There is no place for contexts."""


def _directory_of_all() -> Path:
    try:
        return base_directory("XDG_CONFIG_HOME", ".config") / "worker" / "contexts"
    except RuntimeError:  # from Path.home()
        raise _NoHome("this user has no home directory for contexts; set XDG_CONFIG_HOME") from None


def _directory(name: str) -> Path:
    return _directory_of_all() / name


def _current_file() -> Path:
    return _directory_of_all() / _CURRENT


def _check_name(name: str) -> None:
    if name == DEFAULT:
        raise SettingsError(f"{DEFAULT} is the server of WORKER_HOME, and no context with files of its own")
    if name == _CURRENT or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} is no name of a context; use letters, digits, '.', '_' and '-', at most 63"
        )


def _check_files(name: str, context: Context) -> None:
    from ..api.tls import TlsSetupFailed, client_context  # noqa: PLC0415 - not needed to read a context

    try:
        certificate, key = context.own
        client_context(ca=context.ca, certificate=certificate, key=key)
    except TlsSetupFailed as error:
        reason = str(error).replace(f"{context.directory}/", "")
        raise SettingsError(f"context {name}: {reason}") from None


def _parse(name: str, server: Address | str) -> Address:
    try:
        if len(str(server).split()) != 1:
            raise ValueError("an address has no blanks")  # noqa: TRY301 - the file has one a line
        return parse_address(str(server))
    except ValueError as error:
        raise SettingsError(f"context {name}: {server}: {error}") from None


def _put_in_place(new: Path, directory: Path) -> None:
    if directory.exists():
        _discard(directory)
    new.rename(directory)


def _discard(directory: Path) -> None:
    """Take a context away at once, and then delete it."""
    old = _temporary(directory.parent)
    directory.rename(old)
    shutil.rmtree(old)


def _temporary(parent: Path) -> Path:
    """Create an empty directory; its name is not that of a context."""
    from tempfile import mkdtemp  # noqa: PLC0415 - not needed to read a context

    return Path(mkdtemp(prefix=".", dir=parent))


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # there may be no other copy of the key


def _unknown(name: str) -> SettingsError:
    return SettingsError(f"there is no context named {name}; `worker context list` prints all")


def _cannot_read(path: Path, error: Exception) -> SettingsError:
    return SettingsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(f"cannot change {error.filename}: {error.strerror}") from None
