"""`worker certs`: creates keys and certificates in WORKER_HOME/pki."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from ...api import certificates
from ...api.authority import LEAF_DAYS, KeyType
from ...api.roles import Role
from ..help_page import group
from ..home import worker_home
from ..options.roles import role_option
from ..terminal.printed_objects import CertificateFilesObject, RequestFilesObject
from ..terminal.show import format_option
from .certs_output import failures, progress_of, show_files
from .certs_revocation import crl_command, revoke_command
from .certs_show import show_command

Command = TypeVar("Command", bound=Callable[..., object])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _key_type_option(command: Command) -> Command:
    return click.option(
        "--key-type",
        type=click.Choice([each.value for each in KeyType]),
        default=KeyType.RSA_4096.value,
        show_default=True,
        help="Type of the keys; p256 needs less CPU time per connection.",
    )(command)


def _key_options(command: Command) -> Command:
    days = click.option(
        "--days",
        type=click.IntRange(1, 3650),
        default=LEAF_DAYS,
        show_default=True,
        help="Validity of the certificates; the CA is valid for ten years.",
    )
    return _key_type_option(days(command))


@group("certs")
def certs() -> None:
    """Create keys and certificates for servers and clients."""


certs.add_command(revoke_command)
certs.add_command(crl_command)
certs.add_command(show_command)


@certs.command(
    "init", examples=("worker certs init", "worker certs init --host build.example.org --key-type p256")
)
@click.option("--host", multiple=True, help="An additional name or address of the server; may be repeated.")
@_key_options
@format_option("json", prints=list[CertificateFilesObject])
def init_command(host: Sequence[str], key_type: str, days: int, form: str | None) -> None:
    """Create a CA, and keys and certificates for a server, a writer and a reader.

    The key of the CA is in WORKER_HOME/ca; no server needs it. An existing CA is never overwritten.
    """
    home = worker_home()
    home.make()
    kind = KeyType(key_type)
    with failures():
        certificates.init(home.pki, hosts=host, key_type=kind, days=days, on_key=progress_of(kind))
    show_files([home.pki / f"{name}.crt" for name in ("ca", "server", "writer", "reader")], form)


@certs.command(
    "issue",
    examples=(
        "worker certs issue ci --role writer",
        "worker certs issue --csr alice.csr --role reader alice",
    ),
)
@click.argument("name", metavar="NAME")
@role_option(required=False)
@click.option("--server", is_flag=True, help="Create those of a server instead of a client.")
@click.option(
    "--host", multiple=True, help="An additional name or address of that server; may be repeated."
)
@click.option(
    "--csr", type=_FILE, help="A request of `certs request`: only the certificate is created, for its key."
)
@_key_options
@format_option("json", prints=list[CertificateFilesObject])
def issue_command(
    name: str,
    roles: Sequence[str],
    host: Sequence[str],
    csr: Path | None,
    key_type: str,
    days: int,
    form: str | None,
    *,
    server: bool,
) -> None:
    """Create key and certificate of a client, or of a server; NAME is the owner of the client's jobs.

    An existing file is never overwritten; `certs renew` replaces a certificate.
    """
    if server == bool(roles) or (host and not server):
        raise click.UsageError("use either --role for a client, or --server, with --host, for a server")
    kind, pki = KeyType(key_type), worker_home().pki
    request = None if csr is None else csr.read_bytes()
    on_key = progress_of(kind)
    with failures():
        if server:
            created = certificates.issue_server(
                pki, name, hosts=host, request=request, key_type=kind, days=days, on_key=on_key
            )
        else:
            granted = [Role(each) for each in roles]
            created = certificates.issue(
                pki, name, granted, request=request, key_type=kind, days=days, on_key=on_key
            )
    show_files([created], form)


@certs.command(
    "request", examples=("worker certs request alice", "worker certs request --key-type p256 alice")
)
@click.argument("name", metavar="NAME")
@_key_type_option
@format_option("json", prints=list[RequestFilesObject])
def request_command(name: str, key_type: str, form: str | None) -> None:
    """Create a key on this machine, and a request for its certificate.

    The key does not leave the machine: send NAME.csr to the owner of the CA, for `certs issue NAME --csr`.
    """
    home = worker_home()
    home.make()
    kind = KeyType(key_type)
    with failures():
        created = certificates.request(home.pki, name, key_type=kind, on_key=progress_of(kind))
    show_files([created], form)


@certs.command(
    "renew", examples=("worker certs renew server", "worker certs renew --host build.example.org server")
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--days", type=click.IntRange(1, 3650), help=f"Validity.  [default: {LEAF_DAYS}, of the CA ten years]"
)
@click.option(
    "--host", multiple=True, help="A further name or address of the server NAME; may be repeated."
)
@format_option("json", prints=list[CertificateFilesObject])
def renew_command(names: Sequence[str], days: int | None, host: Sequence[str], form: str | None) -> None:
    """Replace certificates by ones with later dates, for the same keys.

    With --host the certificate of a server also gets further names. A running server notices the new
    certificate within ten seconds. NAME `ca` is the CA: what it has issued remains
    valid, and its certificate must be copied to the clients again.
    """
    pki = worker_home().pki
    with failures():
        renewed = [certificates.renew(pki, name, days=days, hosts=host) for name in names]
    show_files(renewed, form)
