"""`worker stop`: ends a job and all of its processes."""

import click

from ...client.job import Job
from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import for_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..options.parameters import DURATION, SIGNAL
from ..terminal.console import note, say
from ..terminal.printed_objects import StoppedObject
from ..terminal.show import format_option, output_missing


@command(examples=("worker stop JOB", "worker stop --grace 1m --label team=a"))
@jobs_argument
@click.option(
    "--signal",
    type=SIGNAL,
    help="The first signal to send, as for kill(1).  [default: TERM; with a terminal HUP]",
)
@click.option(
    "-t", "--grace", type=DURATION, help="Time until SIGKILL.  [default: as set when the job was started]"
)
@click.option(
    "--signal-all",
    is_flag=True,
    help="Signal every process at once, not the main process first.",
)
@format_option("json", prints=StoppedObject | list[StoppedObject])
@client_options
def stop(
    settings: ClientSettings,
    chosen: ChosenJobs,
    signal: int | None,
    grace: float | None,
    form: str | None,
    *,
    signal_all: bool,
) -> None:
    """Stop jobs and all of their processes.

    The main process of a job gets the signal, its other processes get it when the main process has ended or
    ignores it, at the latest after half of the grace period. Then all that are left get SIGKILL.
    Returns when none of its processes is left.
    """

    def show(job: Job, missing: int | None) -> object:
        if missing:
            note(output_missing(missing))
        if form != "json":
            say(f"Job {job} has been stopped")
        return StoppedObject(id=str(job), stopped=True, output_missing=missing)

    for_each_job(
        settings,
        chosen,
        lambda job: job.stop(signal=signal, grace=grace, signal_all=signal_all),
        show,
        form,
        running=True,
    )
