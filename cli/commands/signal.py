"""`worker signal`: sends a signal to jobs."""

import click

from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import report_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..options.parameters import SIGNAL
from ..terminal.printed_objects import SignalledObject
from ..terminal.show import format_option


@command(examples=("worker signal JOB HUP", "worker signal --all JOB USR1"))
@click.option("--all", "all_processes", is_flag=True, help="Signal every process of the job.")
@jobs_argument
@click.argument("number", metavar="SIGNAL", type=SIGNAL)
@format_option("json", prints=SignalledObject | list[SignalledObject])
@client_options
def signal(
    settings: ClientSettings, chosen: ChosenJobs, number: int, form: str | None, *, all_processes: bool
) -> None:
    """Send a signal to jobs.

    The main process of a job gets the signal, such as HUP. The job goes on, unless the signal ends it;
    `worker stop` ends a job.
    """
    report_each_job(
        settings,
        chosen,
        lambda job: job.signal(number, all_processes=all_processes),
        "signalled",
        form,
        lambda job: SignalledObject(id=job, signal=number, all=all_processes, sent=True),
        running=True,
    )
