"""`worker pause`: freezes the processes of a job."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..terminal.console import printable, say
from ..terminal.show import format_option, show_json


@click.command()
@job_argument
@format_option("json")
@client_options
def pause(settings: ClientSettings, job: str, form: str | None) -> None:
    """Freeze all processes of a job.

    They continue with `worker resume`. The timeout of the job goes on counting; a stop resumes it.
    """
    call(settings, lambda client: client.pause(job))
    if form == "json":
        show_json({"id": job, "paused": True})
    else:
        say(f"Job {printable(job)} has been paused")
