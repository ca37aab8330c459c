"""`worker invite`: gives a user on another machine a certificate, for a token that is valid once."""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from ...api.authority import LEAF_DAYS
from ...api.certificate_details import certificate_details
from ...api.certificate_files import CertificateError
from ...api.credentials import write_bundle
from ...api.invitation import Invitation, Invited, bundle, invitation
from ...api.inviting import InvitationEnded, Inviter, Joined
from ...api.roles import Role
from ...api.server_check import ServerTrouble, Trouble, server_trouble
from ...api.tls import TlsSetupFailed
from ...client.address import Address, default_address, is_loopback
from ..help_page import command
from ..home import Home, worker_home
from ..options.parameters import ADDRESS, DURATION
from ..options.quantities import format_duration
from ..options.roles import role_option
from ..outside_address import is_here, is_wildcard, outside
from ..terminal.console import Failure, note, printable, say

_LONGEST = 24 * 3600.0


@command(
    examples=(
        "worker invite alice --role writer --listen 0.0.0.0:7444",
        "worker invite alice --role reader --bundle alice.bundle",
    )
)
@click.argument("name", metavar="NAME")
@role_option(required=True)
@click.option("--listen", type=ADDRESS, help="Where to wait for `worker join`; port 0: any free port.")
@click.option(
    "--ttl",
    type=DURATION,
    default="15m",
    show_default=True,
    help="How long to wait, at most a day.",
)
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Wait for nobody: write the certificate with a new key to this file, which must be kept secret.",
)
@click.option(
    "--server",
    "servers",
    type=ADDRESS,
    multiple=True,
    help="Address of the server for the client.  [default: the host of --listen, with the port of your own "
    "server]",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=LEAF_DAYS,
    show_default=True,
    help="Validity of the certificate.",
)
def invite(
    name: str,
    roles: Sequence[str],
    listen: Address | None,
    ttl: float,
    bundle: Path | None,
    servers: Sequence[Address],
    days: int,
) -> None:
    """Give a user on another machine a certificate.

    Prints the `worker join` command for that machine, which contains a token, and waits there until it was
    used once. Run it where the key of the CA is. NAME is the owner of the client's jobs.
    """
    if (listen is None) == (bundle is None):
        raise click.UsageError(
            "use either --listen, or --bundle if there is no network between the machines"
        )
    if not 1 <= ttl <= _LONGEST:
        raise click.UsageError(f"--ttl: use 1s to {format_duration(_LONGEST)}")
    home = worker_home()
    for_client = servers or [_server(home, listen)]
    granted = [Role(each) for each in roles]
    invited = Invited(name, granted, [str(each) for each in for_client], days)
    try:
        if bundle is not None:
            _write(home, invited, bundle)
            return
        offered = invitation(home.pki, invited)
    except CertificateError as error:
        raise Failure(str(error)) from None
    assert listen is not None
    check = partial(_check_servers, home, for_client)
    joined = asyncio.run(_wait(offered, listen, _outside(listen, servers), ttl, check))
    if not joined.confirmed:
        raise Failure(_unconfirmed(name, joined))
    say(f"{_described(joined.certificate)}; joined from {printable(joined.address)}")


async def _wait(
    offered: Invitation, listen: Address, host: str, ttl: float, check: Callable[[], None]
) -> Joined:
    """Wait until the invitation was used; ``host`` is that of the other machine's command."""
    inviter = Inviter(offered, report=lambda text: note(printable(text)))
    try:
        try:
            port = await inviter.listen(*listen)
        except OSError as error:
            raise Failure(f"cannot listen at {listen}: {_reason(error)}") from None
        await asyncio.to_thread(check)
        address = Address(host, port)
        say(f"worker join {address} {offered.token}")
        if is_loopback(address.host):
            note(f"only this machine reaches {address}")
        note(
            f"run this on the other machine within {format_duration(ttl)}, as the user who is to be "
            f"{printable(repr(offered.invited.name))}; it can be used once"
        )
        return await inviter.joined(ttl)
    except InvitationEnded as error:
        raise Failure(f"{error}; no certificate was issued") from None
    finally:
        await inviter.close()


def _outside(listen: Address, servers: Sequence[Address]) -> str:
    """Return the host under which the other machine reaches the invitation.

    If it listens everywhere, that is the name of a server on this machine, if one was given.
    """
    names = [each.host for each in servers if is_wildcard(listen.host) and is_here(each.host)]
    return names[0] if names else outside(listen.host)


def _reason(error: OSError) -> str:
    """Return the reason alone: asyncio adds the address. The numbers of resolver errors are negative."""
    known = error.errno is not None and error.errno > 0
    return os.strerror(error.errno or 0) if known else error.strerror or str(error)


def _server(home: Home, listen: Address | None) -> Address:
    """Return the address of the server of this home, as other machines reach it."""
    recorded = default_address(home)
    if listen is not None:
        return Address(outside(listen.host), recorded.port)
    return Address(outside("0.0.0.0"), recorded.port) if is_loopback(recorded.host) else recorded  # noqa: S104


def _write(home: Home, invited: Invited, path: Path) -> None:
    try:
        certificate, credentials = bundle(home.pki, invited)
    except OSError as error:
        raise Failure(f"cannot issue the certificate: {error.strerror}") from None
    try:
        write_bundle(path, credentials)
    except BaseException:
        certificate.unlink()  # its key is gone
        raise
    say(f"{_described(certificate)}; certificate and key are in {path}")
    note(f"{path} contains a private key: carry it to the other machine, then delete it")
    note(f"there: worker join --bundle {path.name}")


def _check_servers(home: Home, addresses: Sequence[Address]) -> None:
    """Tell what prevents the client from using a server; it may also be started later."""
    own = "writer" if os.access(home.pki / "writer.key", os.R_OK) else None
    for address in addresses:
        try:
            trouble = server_trouble(address.host, address.port, home.pki, own=own)
        except TlsSetupFailed as error:
            raise Failure(str(error)) from None
        if trouble is not None:
            note(_advice(address, trouble))


def _advice(address: Address, trouble: ServerTrouble) -> str:
    reason = printable(trouble.reason)
    start = f"the client is to use the server at {address}, but {trouble.kind.value} ({reason}); "
    match trouble.kind:
        case Trouble.UNREACHABLE:
            everywhere = Address("::" if ":" in address.host else "0.0.0.0", address.port)  # noqa: S104
            return (
                f"{start}`worker up --listen {everywhere}` starts a server that other machines reach "
                "(`worker down` first, if one is up); --server names another address"
            )
        case Trouble.UNKNOWN_HOST:
            return f"{start}the other machine must know it; --server names another address"
        case Trouble.OTHER_NAME:
            return (
                f"{start}`worker certs renew server --host {address.host}` adds it, and the server "
                "notices that within ten seconds"
            )
        case _:
            return f"{start}--server names another address"


def _unconfirmed(name: str, joined: Joined) -> str:
    return (
        f"the certificate was sent to {printable(joined.address)}, which has not confirmed that it was "
        f"stored; if it does not work there, deny it (`worker certs revoke {name}`), remove "
        f"{joined.certificate}, and invite again"
    )


def _described(path: Path) -> str:
    found = certificate_details(path).certificate
    roles = ", ".join(sorted(found.identity.roles))
    return f"{path} was issued to {printable(found.identity.name)} ({roles}), serial {found.serial_hex}"
