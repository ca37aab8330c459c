"""`worker wait`: waits until a job has finished."""

import click

from ...client.job import Job
from ...core.model.ending import exit_code
from ..client_settings import ClientSettings, call_job, client_options
from ..options.job import job_argument
from ..terminal.console import note, printable, say
from ..terminal.show import format_option, show_job


@click.command()
@job_argument
@format_option("json", "wide")
@client_options
def wait(settings: ClientSettings, job: str, form: str | None) -> None:
    """Wait until a job has finished and print its exit code."""
    status = call_job(settings, job, Job.wait)
    if form is not None:
        show_job(status, form)
        return
    assert status.ending is not None  # it has finished
    say(str(exit_code(status.ending)))
    if status.lost_reason:
        note(f"the job is lost: {printable(status.lost_reason)}")
