"""`worker remove`: deletes a finished job and its output."""

import click

from ...client.job import Job
from ..client_settings import ClientSettings, call_job, client_options
from ..options.job import job_argument
from ..terminal.show import confirm, format_option


@click.command()
@job_argument
@format_option("json")
@client_options
def remove(settings: ClientSettings, job: str, form: str | None) -> None:
    """Remove a finished job and its output."""
    call_job(settings, job, Job.remove)
    confirm(job, "removed", form, removed=True)
