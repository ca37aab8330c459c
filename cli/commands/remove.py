"""`worker remove`: deletes a finished job and its output."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..terminal.show import confirm, format_option


@click.command()
@job_argument
@format_option("json")
@client_options
def remove(settings: ClientSettings, job: str, form: str | None) -> None:
    """Remove a finished job and its output."""
    call(settings, lambda client: client.remove(job))
    confirm(job, "removed", form, removed=True)
