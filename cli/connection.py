"""Where a client command connects to, and as whom."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from ..api.client import Client, RpcError, ServerUnreachable
from ..api.resuming import PATIENCE, Disconnection, ResumingClient
from ..api.tls import TlsSetupFailed, client_context
from .home import Home, worker_home
from .options.address import Address
from .options.parameters import ADDRESS, DURATION
from .terminal.console import Failure, note, printable

Result = TypeVar("Result")

_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Connection:
    """What it takes to connect; what is None is looked up in WORKER_HOME.

    ``reconnect`` is how many seconds a server that went away is waited for.
    """

    server: Address | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    reconnect: float = PATIENCE

    def client(self) -> ResumingClient:
        """Return a client that is not connected yet; entering it raises Failure where there are no keys."""
        return ResumingClient(
            self._connect, patience=self.reconnect, on_lost=self._tell_of_loss, on_back=_tell_of_return
        )

    def _connect(self) -> Client:
        home = worker_home()
        host, port = self.server or home.address()
        if self.cert is not None and self.key is not None:
            cert, key = self.cert, self.key
        elif self.cert is None and self.key is None:
            cert, key = _own_pair(home)
        else:
            raise click.UsageError("--cert and --key go together")
        try:
            context = client_context(ca=self.ca or home.pki / "ca.crt", certificate=cert, key=key)
        except TlsSetupFailed as error:
            raise Failure(str(error)) from None
        return Client(host, port, context)

    def _tell_of_loss(self, error: Disconnection) -> None:
        note(f"{printable(str(error))}; trying again for {self.reconnect:g} s")


def _tell_of_return() -> None:
    note("the server is back")


def connection_options(use: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a client; it gets them as ``connection``."""

    @click.option(
        "--server", type=ADDRESS, envvar="WORKER_SERVER", show_envvar=True, help="Where the server is."
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
        help=f"Wait so long for a server that went away; 0 for not at all.  [default: {PATIENCE:g}s]",
    )
    @wraps(use)
    def with_connection(
        server: Address | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        reconnect: float,
        **options: Any,
    ) -> None:
        use(connection=Connection(server, ca, cert, key, reconnect), **options)

    return with_connection


def call(connection: Connection, use: Callable[[ResumingClient], Awaitable[Result]]) -> Result:
    """Connect, do something, and return what came of it; raise Failure when it does not work."""
    with failures(status=1):
        return asyncio.run(_connected(connection, use))


async def _connected(connection: Connection, use: Callable[[ResumingClient], Awaitable[Result]]) -> Result:
    async with connection.client() as client:
        return await use(client)


@contextmanager
def failures(status: int) -> Iterator[None]:
    """Tell what the server refused, or why there is no talking to it, and exit with ``status``."""
    try:
        yield
    except (RpcError, ServerUnreachable) as error:
        raise Failure(printable(str(error)), status) from None


def _own_pair(home: Home) -> tuple[Path, Path]:
    """Return certificate and key of the writer, or of the reader for who may not read the writer's."""
    for role in ("writer", "reader"):
        key = home.pki / f"{role}.key"
        if os.access(key, os.R_OK):
            return home.pki / f"{role}.crt", key
    raise Failure(
        f"no key that can be read at {home.pki / 'writer.key'}; `worker up` makes keys and a server "
        "of your own, --ca, --cert and --key (WORKER_CA, WORKER_CERT, WORKER_KEY) name others"
    )
