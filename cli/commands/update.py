"""`worker update`: other limits for a job that runs."""

from typing import Unpack

import click

from ...core.model.limits import ResourceLimits
from ..connection import Connection, call, connection_options
from ..options.limits import Limits, limit_options, resource_limits
from ..options.spec import refusals
from ..terminal.console import printable, say
from ..terminal.show import format_option, show_json
from .jobs import job_argument


@click.command()
@limit_options
@job_argument
@format_option("json")
@connection_options
def update(connection: Connection, job: str, form: str | None, **limits: Unpack[Limits]) -> None:
    """Change limits of a running job.

    Those that are not named stay as they are.
    """
    with refusals():
        changes = resource_limits(limits)
    if changes == ResourceLimits():
        raise click.UsageError("no limit to change is given; name one, as --memory 1G")
    call(connection, lambda client: client.update(job, changes))
    if form == "json":
        show_json({"id": job, "updated": True})
    else:
        say(f"Job {printable(job)} has been updated")
