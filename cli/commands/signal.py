"""`worker signal`: sends a signal to a job."""

import click

from ..client_settings import ClientSettings, call_job, client_options
from ..options.job import job_argument
from ..options.parameters import SIGNAL
from ..terminal.show import confirm, format_option


@click.command()
@click.option("--all", "all_processes", is_flag=True, help="Signal every process of the job.")
@job_argument
@click.argument("number", metavar="SIGNAL", type=SIGNAL)
@format_option("json")
@client_options
def signal(
    settings: ClientSettings, job: str, number: int, form: str | None, *, all_processes: bool
) -> None:
    """Send a signal to a job.

    Its main process gets the signal, such as HUP. The job goes on, unless the signal ends it;
    `worker stop` ends a job.
    """
    call_job(settings, job, lambda found: found.signal(number, all_processes=all_processes))
    confirm(job, "signalled", form, signal=number, all=all_processes, sent=True)
