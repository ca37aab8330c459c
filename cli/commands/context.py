"""`worker context`: names for servers, with the keys for them."""

from collections.abc import Sequence
from pathlib import Path

import click

from ...api.tls import validity
from ...client import contexts
from ...client.address import Address, default_address
from ...client.errors import SettingsError
from ..failures import client_failures
from ..help_page import group
from ..home import worker_home
from ..options.parameters import ADDRESS
from ..terminal.console import say
from ..terminal.printed_objects import ContextDetailsObject, ContextObject
from ..terminal.show import format_option, show_json

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NAME = click.argument("name", metavar="NAME")


@group("context")
def context() -> None:
    """Keep servers by name, with the keys for them.

    The other commands use the current context, or the one of --context or WORKER_CONTEXT. The context
    `default` is the server of WORKER_HOME.
    """


@context.command(
    "add",
    examples=(
        "worker context add build --server build:7443 --ca ca.crt --cert me.crt --key me.key",
        "worker context add --force build --server build:7443 --ca ca.crt --cert new.crt --key new.key",
    ),
)
@_NAME
@click.option("--server", "servers", type=ADDRESS, multiple=True, required=True, help="Its address.")
@click.option("--ca", type=_FILE, required=True, help="CA of the server.")
@click.option("--cert", type=_FILE, required=True, help="Your certificate.")
@click.option("--key", type=_FILE, required=True, help="Your key.")
@click.option("--force", is_flag=True, help="Replace a context of this name.")
def add_command(
    name: str, servers: Sequence[Address], ca: Path, cert: Path, key: Path, *, force: bool
) -> None:
    """Keep a server, and copies of the files for it, under a name.

    The copies can be read by this user alone. With --force, a renewed certificate takes the place of the
    old one.
    """
    with client_failures():
        contexts.add(name, servers, ca.read_bytes(), cert.read_bytes(), key.read_bytes(), force=force)
    say(f"Context {name} is {'replaced' if force else 'added'}; `worker context use {name}` selects it")


@context.command("use", examples=("worker context use build", "worker context use default"))
@_NAME
def use_command(name: str) -> None:
    """Make a context the current one, for all commands and programs of this user."""
    with client_failures():
        contexts.use(name)
    say(f"Context {name} is used from now on")


@context.command("list", examples=("worker context list", "worker context list -o json"))
@format_option("json", prints=list[ContextObject])
def list_command(form: str | None) -> None:
    """Print all contexts; a star marks the current one."""
    with client_failures():
        current = contexts.current()
        found = {each: _servers(each) for each in [contexts.DEFAULT, *contexts.names()]}
    if form == "json":
        show_json(
            [
                ContextObject(name=name, current=name == current, servers=servers)
                for name, servers in found.items()
            ]
        )
        return
    width = max(map(len, found))
    for name, servers in found.items():
        say(f"{'*' if name == current else ' '} {name:<{width}}  {', '.join(servers)}")


@context.command("show", examples=("worker context show", "worker context show build"))
@click.argument("name", metavar="[NAME]", default="")
@format_option("json", prints=ContextDetailsObject)
def show_command(name: str, form: str | None) -> None:
    """Print server, files and dates of a context, by default the current one."""
    with client_failures():
        name = name or contexts.current()
        facts = _details(name)
    if form == "json":
        show_json(facts)
        return
    for title, value in facts.items():
        text = ", ".join(value) if isinstance(value, list) else value
        say(f"{title.capitalize() + ':':<13} {text}")


@context.command(
    "remove",
    examples=("worker context remove build", "worker context remove old-build"),
)
@_NAME
def remove_command(name: str) -> None:
    """Remove a context with its copies of the files."""
    with client_failures():
        contexts.remove(name)
    say(f"Context {name} is removed")


def _servers(name: str) -> list[str]:
    if name == contexts.DEFAULT:
        return [str(default_address(worker_home()))]
    return list(map(str, contexts.load(name).servers))


def _details(name: str) -> ContextDetailsObject:
    if name == contexts.DEFAULT:
        return {"name": name, "servers": _servers(name), "keys": str(worker_home().pki)}
    found = contexts.load(name)
    certificate, key = found.own
    try:
        expires = f"{validity(certificate)[1]:%Y-%m-%dT%H:%M:%SZ}"
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return {
        "name": name,
        "servers": _servers(name),
        "ca": str(found.ca),
        "certificate": str(certificate),
        "expires": expires,
        "key": str(key),
    }
