"""Contexts: servers on other machines with the certificate for them, each in a directory of its name.

``worker join`` adds them, in ``$XDG_CONFIG_HOME/worker/contexts``. The first one is the current one, which
commands use on a machine where this user has no server of his own. The variable WORKER_CONTEXT selects
another one.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .server_address import Address, parse_address
from .terminal.console import Failure

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Context:
    """A named server with the files that a client needs to call it."""

    name: str
    directory: Path

    @property
    def server(self) -> Address:
        """The address of the server; raises Failure."""
        path = self.directory / "servers"
        try:
            return parse_address(path.read_text().split("\n")[0])
        except OSError as error:
            raise Failure(f"there is no context {self.name}: {path}: {error.strerror}") from None
        except ValueError as error:
            raise Failure(f"{path}: {error}") from None

    @property
    def ca(self) -> Path:
        """The CA of the server."""
        return self.directory / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The certificate of the client."""
        return self.directory / "client.crt"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.directory / "client.key"


def context_named(name: str) -> Context:
    """Return the context of this name, whether it exists or not; raise Failure if it cannot exist."""
    if not _NAME.fullmatch(name):
        raise Failure(f"{name!r} is no name of a context; use letters, digits, '.', '_' and '-'")
    return Context(name, _directory() / name)


def selected() -> Context | None:
    """Return the context that WORKER_CONTEXT names, if it is set."""
    name = os.environ.get("WORKER_CONTEXT")
    return context_named(name) if name else None


def current() -> Context | None:
    """Return the current context, if there is one."""
    try:
        return context_named((_directory() / "current").read_text().strip())
    except OSError:
        return None


def check_vacant(name: str) -> None:
    """Raise Failure if there is such a context already."""
    if os.path.lexists(context_named(name).directory):
        raise Failure(f"the context {name} exists; --context chooses another name, --force replaces it")


def make_directory() -> None:
    """Create the directory of all contexts; raise OSError."""
    _directory().mkdir(mode=0o700, parents=True, exist_ok=True)


def add(
    name: str, servers: Sequence[Address], *, ca: bytes, certificate: bytes, key: bytes, force: bool = False
) -> Context:
    """Store a context, complete or not at all, and make the first one the current one.

    An existing one is replaced with ``force``. Raises Failure and OSError.
    """
    from ..api.certificate_files import locked, sync, write_file  # noqa: PLC0415 - loads cryptography

    context, contexts = context_named(name), _directory()
    make_directory()
    staging = Path(tempfile.mkdtemp(prefix=".new.", dir=contexts))
    try:
        new = Context(name, staging / "new")
        new.directory.mkdir(mode=0o700)
        write_file(new.ca, ca, 0o644)
        write_file(new.certificate, certificate, 0o644)
        write_file(new.key, key, 0o600)
        write_file(new.directory / "servers", "".join(f"{each}\n" for each in servers).encode(), 0o644)
        _check(new)
        with locked(contexts):
            if not force:
                check_vacant(name)
            elif context.directory.exists():
                context.directory.rename(staging / "old")
            new.directory.rename(context.directory)
            sync(contexts)
            if current() is None:
                (staging / "current").write_text(f"{name}\n")
                (staging / "current").rename(contexts / "current")
    finally:
        shutil.rmtree(staging)
    return context


def _check(context: Context) -> None:
    """Raise Failure if a client cannot use the files."""
    from ..api.tls import TlsSetupFailed, client_context  # noqa: PLC0415 - loads ssl

    try:
        client_context(ca=context.ca, certificate=context.certificate, key=context.key)
    except TlsSetupFailed as error:
        raise Failure(f"the certificate cannot be used: {error}") from None


def _directory() -> Path:
    # XDG base directory specification: ignore a relative path.
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".config"
    return base / "worker" / "contexts"
