"""`worker certs show`: what certificates contain, and whether a server accepts them."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from ...api.certificate_details import CertificateDetails, certificate_details
from ...api.revoking import denied_in
from ..help_page import command
from ..home import worker_home
from ..terminal.console import Failure, printable, say
from ..terminal.printed_objects import CertificateObject
from ..terminal.show import format_option, show_json
from .certs_output import failures, read_named


@command("show", examples=("worker certs show", "worker certs show alice -o json"))
@click.argument("certificates", metavar="[NAME|FILE...]", nargs=-1)
@format_option("json", prints=list[CertificateObject])
def show_command(certificates: Sequence[str], form: str | None) -> None:
    """Show name, roles, issuer, serial, fingerprint and validity of certificates, by default of all."""
    pki = worker_home().pki
    names = certificates or [path.stem for path in sorted(pki.glob("*.crt"))]
    if not names:
        raise Failure(f"there are no certificates in {pki}; `worker certs init` creates them")
    found = [read_named(pki, name, certificate_details) for name in names]
    with failures():
        denied = denied_in(pki)
    if form == "json":
        show_json([_entry(each, denied) for each in found])
        return
    for position, each in enumerate(found):
        if position:
            say("")
        for key, value in _entry(each, denied).items():
            text = ", ".join(value) if isinstance(value, list) else str(value)
            if text:
                say(f"{key:<12} {printable(text)}")


def _entry(found: CertificateDetails, denied: frozenset[int]) -> CertificateObject:
    certificate = found.certificate
    return {
        "file": str(found.path),
        "name": certificate.identity.name,
        "kind": found.kind,
        "roles": sorted(certificate.identity.roles),
        "hosts": list(found.hosts),
        "issuer": certificate.identity.issuer,
        "serial": certificate.serial_hex,
        "fingerprint": certificate.fingerprint,
        "not_before": _time(certificate.not_before),
        "not_after": _time(certificate.not_after),
        "status": _status(found, denied),
    }


def _status(found: CertificateDetails, denied: frozenset[int]) -> str:
    """Return whether a certificate can be used, as far as the files here tell."""
    now = datetime.now(UTC).timestamp()
    if found.certificate.serial in denied:
        return "denied"
    if now < found.certificate.not_before:
        return "not yet valid"
    if now > found.certificate.not_after:
        return "expired"
    return f"valid for {int((found.certificate.not_after - now) // 86400)} days"


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
