"""`worker join`: accepts an invitation of `worker invite`, and keeps the certificate for later commands."""

import asyncio
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ...api.credentials import Credentials, read_bundle
from ...api.invitation_token import Token, parse_token
from ...client import contexts
from ...client.address import Address, parse_address
from ...client.contexts import Context
from ...client.joining import JoinFailed, joining
from ..failures import client_failures
from ..help_page import command
from ..home import worker_home
from ..options.parameters import ADDRESS, Parsed
from ..terminal.console import FAILED_PRECONDITION, Failure, note, printable, say
from ..terminal.printed_objects import JoinedObject
from ..terminal.show import format_option, show_json

_TOKEN = Parsed("TOKEN", lambda text: text if text == "-" else parse_token(text))


@command(examples=("worker join build:7444 TOKEN", "worker join --bundle alice.bundle"))
@click.argument("address", metavar="[HOST:PORT", type=ADDRESS, required=False)
@click.argument("token", metavar="TOKEN]", type=_TOKEN, required=False)
@click.option(
    "--bundle",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use this file of `worker invite --bundle` instead.",
)
@click.option("--context", "name", help="Name for the server here.  [default: its host]")
@click.option("--force", is_flag=True, help="Replace a context of this name.")
@format_option("json", prints=JoinedObject)
def join(
    address: Address | None,
    token: Token | str | None,
    bundle: Path | None,
    name: str | None,
    form: str | None,
    *,
    force: bool,
) -> None:
    """Accept an invitation to a server on another machine.

    Makes a key, which does not leave this machine, and gets a certificate for it. HOST:PORT and TOKEN are
    those that `worker invite` printed; TOKEN - reads the token from stdin, so that other users of this
    machine cannot see it.
    """
    if (bundle is None) == (address is None) or (address is None) != (token is None):
        raise click.UsageError("use HOST:PORT and TOKEN, as `worker invite` prints them, or --bundle")
    with client_failures():
        if bundle is not None:
            context = _from_bundle(bundle, name, force=force)
        else:
            assert address is not None
            assert token is not None
            secret = _read_token() if isinstance(token, str) else token
            context = asyncio.run(
                _from_invitation(address, secret, name or _name_for(address), force=force)
            )
    _show(context, form)
    if bundle is not None:
        note(f"{bundle} contains a private key; delete it")


async def _from_invitation(address: Address, token: Token, name: str, *, force: bool) -> Context:
    # Everything that can be found out is, before the token is used up.
    if not force:
        contexts.check_vacant(name)
    contexts.make_directory()
    try:
        async with joining(*address, token) as credentials:
            return _store(name, credentials, force=force)
    except JoinFailed as error:
        code = "UNAVAILABLE" if error.unreachable else FAILED_PRECONDITION
        raise Failure(printable(str(error)), code=code) from None


def _from_bundle(path: Path, name: str | None, *, force: bool) -> Context:
    try:
        credentials = read_bundle(path)
    except ValueError as error:
        raise Failure(str(error)) from None
    return _store(name or _name_for(_addresses(credentials.servers)[0]), credentials, force=force)


def _store(name: str, credentials: Credentials, *, force: bool) -> Context:
    """Keep the credentials for later commands: the one place that knows where."""
    context = contexts.add(
        name,
        _addresses(credentials.servers),
        ca=credentials.ca,
        certificate=credentials.certificate,
        key=credentials.key,
        force=force,
    )
    if contexts.current() == contexts.DEFAULT and worker_home().keys is None:
        contexts.use(name)  # there is no other server
    return context


def _addresses(servers: Sequence[str]) -> list[Address]:
    try:
        found = [parse_address(each) for each in servers]
    except ValueError as error:
        raise Failure(f"the address of the server is not usable: {printable(str(error))}") from None
    if not found:
        raise Failure("the invitation names no server")
    return found


def _name_for(address: Address) -> str:
    """Return the name of a context for a host."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", address.host, flags=re.ASCII).strip("-._") or "server"


def _read_token() -> Token:
    try:
        return parse_token(sys.stdin.readline(1000).strip())
    except ValueError as error:
        raise Failure(f"stdin: {error}") from None


def _show(context: Context, form: str | None) -> None:
    if form == "json":
        certificate, key = context.own
        show_json(
            JoinedObject(
                context=context.name,
                server=str(context.server),
                ca=str(context.ca),
                certificate=str(certificate),
                key=str(key),
            )
        )
        return
    say(f"joined {context.server}, which is the context {context.name} here, in {context.directory}")
    others = contexts.current() != context.name
    say(f"try: {f'WORKER_CONTEXT={shlex.quote(context.name)} ' if others else ''}worker run hostname")
