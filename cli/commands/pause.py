"""`worker pause`: freezes the processes of a job."""

import click

from ...client.job import Job
from ..client_settings import ClientSettings, call_job, client_options
from ..options.job import job_argument
from ..terminal.show import confirm, format_option


@click.command()
@job_argument
@format_option("json")
@client_options
def pause(settings: ClientSettings, job: str, form: str | None) -> None:
    """Freeze all processes of a job.

    They continue with `worker resume`. The timeout of the job goes on counting; a stop resumes it.
    """
    call_job(settings, job, Job.pause)
    confirm(job, "paused", form, paused=True)
