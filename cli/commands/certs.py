"""`worker certs`: creates keys and certificates in WORKER_HOME/pki."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from ...api.certificates import (
    LEAF_DAYS,
    CertificateError,
    KeyType,
    init,
    issue,
    issue_server,
)
from ...api.roles import Role
from ...api.tls import validity
from ..home import worker_home
from ..terminal.console import Failure, progress, say
from ..terminal.show import format_option, show_json

Command = TypeVar("Command", bound=Callable[..., object])


def _key_options(command: Command) -> Command:
    key_type = click.option(
        "--key-type",
        type=click.Choice([each.value for each in KeyType]),
        default=KeyType.RSA_4096.value,
        show_default=True,
        help="Type of the keys; p256 needs less CPU time per connection.",
    )
    days = click.option(
        "--days",
        type=click.IntRange(1, 3650),
        default=LEAF_DAYS,
        show_default=True,
        help="Validity of the certificates; the CA is valid for ten years.",
    )
    return key_type(days(command))


@click.group()
def certs() -> None:
    """Create keys and certificates for servers and clients."""


@certs.command("init")
@click.option("--host", multiple=True, help="An additional name or address of the server; may be repeated.")
@_key_options
@format_option("json")
def init_command(host: Sequence[str], key_type: str, days: int, form: str | None) -> None:
    """Create a CA, and keys and certificates for a server, a writer and a reader.

    An existing CA is never overwritten.
    """
    home = worker_home()
    home.make()
    kind = KeyType(key_type)
    with _failures():
        init(home.pki, hosts=host, key_type=kind, days=days, on_key=_progress(kind))
    _show([home.pki / f"{name}.crt" for name in ("ca", "server", "writer", "reader")], form)


@certs.command("issue")
@click.argument("name", metavar="NAME")
@click.option(
    "--role",
    "roles",
    type=click.Choice([each.value for each in Role]),
    multiple=True,
    help="Role of the client: a writer may do everything, a reader may only read.",
)
@click.option("--server", is_flag=True, help="Create those of a server instead of a client.")
@click.option(
    "--host", multiple=True, help="An additional name or address of that server; may be repeated."
)
@_key_options
@format_option("json")
def issue_command(
    name: str,
    roles: Sequence[str],
    host: Sequence[str],
    key_type: str,
    days: int,
    form: str | None,
    *,
    server: bool,
) -> None:
    """Create key and certificate of a client, or of a server; NAME is the owner of the client's jobs.

    An existing file is never overwritten: to renew NAME.crt, move it away first.
    """
    if server == bool(roles) or (host and not server):
        raise click.UsageError("use either --role for a client, or --server, with --host, for a server")
    kind, pki = KeyType(key_type), worker_home().pki
    with _failures():
        if server:
            created = issue_server(pki, name, hosts=host, key_type=kind, days=days, on_key=_progress(kind))
        else:
            granted = [Role(each) for each in roles]
            created = issue(pki, name, granted, key_type=kind, days=days, on_key=_progress(kind))
    _show([created], form)


def _progress(kind: KeyType) -> Callable[[str], None]:
    name = "RSA" if kind is KeyType.RSA_4096 else "P-256"
    return lambda what: progress(f"Creating {name} keys: {what} ...")


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except CertificateError as error:
        raise Failure(str(error)) from None


def _show(certificates: Sequence[Path], form: str | None) -> None:
    created = [(path, path.with_suffix(".key"), validity(path)[1]) for path in certificates]
    if form == "json":
        show_json(
            [
                {"certificate": str(path), "key": str(key), "expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}
                for path, key, expires in created
            ]
        )
    else:
        for path, key, expires in created:
            say(f"{path} and {key.name}, valid until {expires:%Y-%m-%d}")
