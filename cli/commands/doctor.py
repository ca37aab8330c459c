"""`worker doctor`: checks what this machine supports and what is missing, and shows remedies."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

import click

from ..client_settings import ClientSettings, client_options
from ..doctor.checks import examine
from ..doctor.findings import Finding, Verdict
from ..help_page import command
from ..home import worker_home
from ..terminal.console import printable, say
from ..terminal.printed_objects import DoctorObject, FindingObject
from ..terminal.show import format_option, show_json


@command(examples=("worker doctor", "worker doctor -o json"))
@format_option("json", prints=DoctorObject)
@client_options
def doctor(settings: ClientSettings, form: str | None) -> None:
    """Check what this machine supports and what is missing.

    Checks control groups, the kernel, the state in WORKER_HOME, certificates and the server, which it asks
    as the client that the options name. Each
    line begins with `ok`, `warning` (works, with restrictions) or `missing` (required), and ends
    with the remedy. Exits with 1 if something required is missing.
    """
    findings = examine(worker_home(), settings)
    missing = any(each.verdict is Verdict.MISSING for each in findings)
    if form == "json":
        show_json(
            DoctorObject(
                ok=not missing, findings=[cast("FindingObject", asdict(each)) for each in findings]
            )
        )
    else:
        say("\n".join(lines(findings)))
    click.get_current_context().exit(1 if missing else 0)


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return one line for each finding, in columns."""
    width = max(len(each.subject) for each in findings)
    return [f"{each.verdict:<7}  {each.subject:<{width}}  {printable(each.message)}" for each in findings]
