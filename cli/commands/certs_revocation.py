"""`worker certs revoke` and `worker certs crl`: which certificates a server no longer accepts."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click

from ...api.identity import ClientCertificate, read_certificate, serial_text
from ...api.revocation import parse_serial
from ...api.revoking import CRL_DAYS, revoke, write_crl
from ...api.tls import pem_certificates
from ..help_page import command
from ..home import worker_home
from ..terminal.console import say
from ..terminal.printed_objects import CrlObject, RevokedObject
from ..terminal.show import format_option, show_json
from .certs_output import failures, read_named

_DAYS = click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=CRL_DAYS,
    show_default=True,
    help="How long the CRL is valid; after that the server accepts no client of this CA.",
)


@command("revoke", examples=("worker certs revoke alice", "worker certs revoke --serial 4f9a31"))
@click.argument("certificates", metavar="NAME|FILE...", nargs=-1)
@click.option("--serial", "serials", multiple=True, help="A serial in hex, without the certificate.")
@_DAYS
@format_option("json", prints=RevokedObject)
def revoke_command(
    certificates: Sequence[str], serials: Sequence[str], days: int, form: str | None
) -> None:
    """Deny certificates: adds their serials to pki/denied, and to the CRL if there is one.

    NAME denies all certificates of that name in pki, also one in a file that was renamed there.
    A running server notices it within seconds, and disconnects the clients; their jobs keep running.
    """
    if not certificates and not serials:
        raise click.UsageError("name a certificate, or use --serial")
    pki = worker_home().pki
    denied = [*_of_files(pki, certificates), *_given(serials)]
    with failures():
        changed = revoke(pki, denied, days=days)
    if form == "json":
        show_json(
            RevokedObject(
                serials=[serial_text(each) for each, _ in denied],
                changed=[str(path) for path in changed],
            )
        )
        return
    for serial, what in denied:
        say(f"denied {what}, serial {serial_text(serial)}")
    say(f"changed: {', '.join(map(str, changed)) or 'nothing'}")


@command("crl", examples=("worker certs crl", "worker certs crl --days 30"))
@_DAYS
@format_option("json", prints=CrlObject)
def crl_command(days: int, form: str | None) -> None:
    """Create the CRL pki/ca.crl, or renew it before it expires; it contains what pki/denied contains."""
    with failures():
        path = write_crl(worker_home().pki, days=days)
    if form == "json":
        show_json(CrlObject(crl=str(path), days=days))
    else:
        say(f"{path}, valid for {days} days")


def _of_files(pki: Path, certificates: Sequence[str]) -> Iterator[tuple[int, str]]:
    for each in certificates:
        found = list(_others(pki, each))
        if (pki / f"{each}.crt").exists() or not found:
            found.insert(0, read_named(pki, each, _read))
        for certificate in found:
            name = certificate.identity.name
            yield certificate.serial, "".join(char if char.isprintable() else "?" for char in name)


def _others(pki: Path, name: str) -> Iterator[ClientCertificate]:
    """Yield the certificates of this name in ``pki`` that are not in NAME.crt.

    The file of such a one was moved away, so that the client could get another certificate.
    """
    for path in sorted(set(pki.glob("*.crt")) - {pki / f"{name}.crt", pki / "ca.crt"}):
        with suppress(OSError, ValueError):
            found = _read(path)
            if found.identity.name == name:
                yield found


def _read(path: Path) -> ClientCertificate:
    return read_certificate(pem_certificates(path)[0])


def _given(serials: Sequence[str]) -> Iterator[tuple[int, str]]:
    for each in serials:
        try:
            yield parse_serial(each), "by serial"
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--serial") from None
