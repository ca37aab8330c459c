"""The options that select a server, and calls with them: a failure of the client is one of the command."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from ..client.address import Address
from ..client.calls import PATIENCE
from ..client.client import Client
from ..client.errors import Disconnection, RpcError
from ..client.job import Job
from ..client.settings import ClientSettings
from .failures import client_failures, job_failure, words
from .options.parameters import ADDRESS, DURATION, Parsed
from .terminal.console import note

__all__ = ["ClientSettings", "call", "call_job", "client", "client_options"]

Result = TypeVar("Result")

_ROLES = ("writer", "reader")
_FILE = click.Path(dir_okay=False, path_type=Path)
_NAME = Parsed("NAME", str)


class _ClientOption(click.Option):
    """An option whose variable is read by the client, which does the same for programs."""

    def value_from_envvar(self, ctx: click.Context) -> None:
        """Return no value."""


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a client to a command, which receives them as ``settings``."""

    def option(name: str, kind: Parsed | click.Path, help_text: str) -> Callable[..., Callable[..., None]]:
        return click.option(
            f"--{name}",
            cls=_ClientOption,
            type=kind,
            envvar=f"WORKER_{name.upper()}",
            show_envvar=True,
            help=help_text,
        )

    @option("context", _NAME, "Server and keys by name, see `worker context`.")
    @option("server", ADDRESS, "Address of the server.")
    @option("ca", _FILE, "CA of the server.")
    @option("cert", _FILE, "Your certificate.")
    @option("key", _FILE, "Your key.")
    @option(
        "reconnect",
        DURATION,
        f"How long to retry after the connection was lost; 0: do not retry.  [default: {PATIENCE:g}s]",
    )
    @wraps(command)
    def with_settings(
        context: str | None,
        server: Address | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        reconnect: float | None,
        **options: Any,
    ) -> None:
        command(settings=ClientSettings(server, ca, cert, key, reconnect, context), **options)

    return with_settings


def client(settings: ClientSettings) -> Client:
    """Return a client that is not connected yet, and reports a lost connection on stderr."""
    patience = settings.patience

    def report_loss(error: Disconnection) -> None:
        note(f"{words(error)}; trying again for {patience:g} s")

    return settings.client(on_lost=report_loss, on_back=lambda: note("the server is back"))


def call(settings: ClientSettings, use: Callable[[Client], Awaitable[Result]]) -> Result:
    """Connect, call ``use`` with the client, and return its result; raise Failure if a call fails."""

    async def connected() -> Result:
        async with client(settings) as connection:
            return await use(connection)

    with client_failures():
        return asyncio.run(connected())


def call_job(settings: ClientSettings, reference: str, use: Callable[[Job], Awaitable[Result]]) -> Result:
    """Connect, and call ``use`` with the job that a reference names, as in `call`."""

    async def found(connection: Client) -> Result:
        try:
            return await use(await connection.job(reference))
        except RpcError as error:
            raise job_failure(error, reference) from None

    return call(settings, found)
