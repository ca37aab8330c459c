"""`worker resume`: lets the processes of a paused job continue."""

import click

from ...client.job import Job
from ..client_settings import ClientSettings, call_job, client_options
from ..options.job import job_argument
from ..terminal.show import confirm, format_option


@click.command()
@job_argument
@format_option("json")
@client_options
def resume(settings: ClientSettings, job: str, form: str | None) -> None:
    """Let the processes of a paused job continue."""
    call_job(settings, job, Job.resume)
    confirm(job, "resumed", form, paused=False)
