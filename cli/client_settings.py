"""Which server a client command connects to, with which certificate, and for how long it reconnects."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from ..api.tls import TlsSetupFailed, client_context
from ..client.client import Client, RpcError, ServerUnreachable
from ..client.resuming import PATIENCE, Disconnection, ResumingClient
from .contexts import Context, current, selected
from .home import Home, worker_home
from .options.parameters import ADDRESS, DURATION
from .server_address import Address, default_address
from .terminal.console import Failure, note, printable

Result = TypeVar("Result")

_ROLES = ("writer", "reader")
_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to connect to the server; for a field that is None, WORKER_HOME has the value.

    ``reconnect`` is in seconds: how long to retry after the connection to the server was lost.
    """

    server: Address | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    reconnect: float = PATIENCE

    def client(self) -> ResumingClient:
        """Return a client that is not connected yet; entering it raises Failure if keys are missing."""
        return ResumingClient(
            self._connect, patience=self.reconnect, on_lost=self._report_loss, on_back=_report_return
        )

    def _connect(self) -> Client:
        home = worker_home()
        if (context := self._context(home)) is not None:
            return _client(*context.server, context.ca, context.certificate, context.key)
        host, port = self.server or default_address(home)
        if self.cert is not None and self.key is not None:
            cert, key = self.cert, self.key
        elif self.cert is None and self.key is None:
            cert, key = _certificate_of(home)
        else:
            raise click.UsageError("--cert and --key must be used together")
        return _client(host, port, self.ca or home.pki / "ca.crt", cert, key)

    def _context(self, home: Home) -> Context | None:
        """Return the context to use: one that is selected, or the current one where there are no keys."""
        if any((self.server, self.ca, self.cert, self.key)):
            return None
        return selected() or (None if has_keys(home) else current())

    def _report_loss(self, error: Disconnection) -> None:
        note(f"{printable(str(error))}; trying again for {self.reconnect:g} s")


def has_keys(home: Home) -> bool:
    """Whether this user has the keys of a server of his own."""
    return any(os.access(home.pki / f"{role}.key", os.R_OK) for role in _ROLES)


def _client(host: str, port: int, ca: Path, cert: Path, key: Path) -> Client:
    try:
        context = client_context(ca=ca, certificate=cert, key=key)
    except TlsSetupFailed as error:
        raise Failure(str(error)) from None
    return Client(host, port, context)


def _report_return() -> None:
    note("the server is back")


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a client to a command, which receives them as ``settings``."""

    @click.option(
        "--server", type=ADDRESS, envvar="WORKER_SERVER", show_envvar=True, help="Address of the server."
    )
    @click.option("--ca", type=_FILE, envvar="WORKER_CA", show_envvar=True, help="CA of the server.")
    @click.option("--cert", type=_FILE, envvar="WORKER_CERT", show_envvar=True, help="Your certificate.")
    @click.option("--key", type=_FILE, envvar="WORKER_KEY", show_envvar=True, help="Your key.")
    @click.option(
        "--reconnect",
        type=DURATION,
        default=PATIENCE,
        envvar="WORKER_RECONNECT",
        show_envvar=True,
        help=f"How long to retry after the connection was lost; 0: do not retry.  [default: {PATIENCE:g}s]",
    )
    @wraps(command)
    def with_settings(
        server: Address | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        reconnect: float,
        **options: Any,
    ) -> None:
        command(settings=ClientSettings(server, ca, cert, key, reconnect), **options)

    return with_settings


def call(settings: ClientSettings, use: Callable[[ResumingClient], Awaitable[Result]]) -> Result:
    """Connect, call ``use`` with the client, and return its result; raise Failure if a call fails."""
    with rpc_failures(status=1):
        return asyncio.run(_connected(settings, use))


async def _connected(
    settings: ClientSettings, use: Callable[[ResumingClient], Awaitable[Result]]
) -> Result:
    async with settings.client() as client:
        return await use(client)


@contextmanager
def rpc_failures(status: int) -> Iterator[None]:
    """Turn an error of the server, or of the connection to it, into a Failure with this exit status."""
    try:
        yield
    except (RpcError, ServerUnreachable) as error:
        raise Failure(printable(str(error)), status) from None


def _certificate_of(home: Home) -> tuple[Path, Path]:
    """Return certificate and key of the writer, or of the reader if the writer's key is not readable."""
    for role in _ROLES:
        key = home.pki / f"{role}.key"
        if os.access(key, os.R_OK):
            return home.pki / f"{role}.crt", key
    raise Failure(
        f"there is no readable key at {home.pki / 'writer.key'}; `worker up` creates keys and starts a "
        "server, `worker join` accepts an invitation to one on another machine, --ca, --cert and --key "
        "(WORKER_CA, WORKER_CERT, WORKER_KEY) select other keys"
    )
