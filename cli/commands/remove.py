"""`worker remove`: deletes a finished job and its output."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..terminal.console import printable, say
from ..terminal.show import format_option, show_json


@click.command()
@job_argument
@format_option("json")
@client_options
def remove(settings: ClientSettings, job: str, form: str | None) -> None:
    """Remove a finished job and its output."""
    call(settings, lambda client: client.remove(job))
    if form == "json":
        show_json({"id": job, "removed": True})
    else:
        say(f"Job {printable(job)} has been removed")
