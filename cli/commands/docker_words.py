"""`worker ps`, `logs`, `kill`, `rm` and `inspect`: words of docker with the meaning they have there."""

from functools import partial

import click

from ...client.job import Job
from ...core.model.job import JobStatus
from ...core.model.stream_start import BEGINNING, StreamStart
from ...core.model.stream_times import StreamTimes
from ..client_settings import ClientSettings, call, call_job, client_options
from ..help_page import command
from ..job_calls import for_each_job, report_each_job
from ..options.job import ChosenJobs, job_argument, jobs_argument
from ..options.parameters import COUNT, SIGNAL, TAIL, TIME
from ..terminal.job_list import first, print_jobs
from ..terminal.job_object import job_object
from ..terminal.output_copy import OutputCopies
from ..terminal.printed_objects import RemovedObject, SignalledObject
from ..terminal.show import format_option, show_json
from .stream import copy_output


@command(examples=("worker ps", "worker ps -a -n 20"))
@click.option("-a", "--all", "finished", is_flag=True, help="Also jobs that have finished.")
@click.option("-n", "--last", "most", type=COUNT, help="Only the newest jobs, also finished ones.")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids.")
@client_options
def ps(settings: ClientSettings, most: int | None, *, finished: bool, quiet: bool) -> None:
    """Print running jobs, as docker ps; `worker list` prints all jobs."""
    call(
        settings,
        lambda client: print_jobs(
            first(client.jobs(running=not finished and most is None, newest_first=True), most),
            "quiet" if quiet else None,
        ),
    )


@command(examples=("worker logs JOB", "worker logs -f --tail 100 JOB"))
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Follow the output until the job ends.")
@click.option("-n", "--tail", type=TAIL, default=None, help="Start this many lines before the end.")
@click.option("-t", "--timestamps", is_flag=True, help="Print before each line when it was written.")
@click.option("--since", type=TIME, help="Start with the output of this time.")
@click.option("--until", type=TIME, help="End with the output of this time.")
@client_options
def logs(
    settings: ClientSettings,
    job: str,
    tail: StreamStart | None,
    since: int | None,
    until: int | None,
    *,
    follow: bool,
    timestamps: bool,
) -> None:
    """Print a job's output up to now, as docker logs; `worker stream` follows it."""
    times = StreamTimes(since, until, timestamps)
    call_job(
        settings,
        job,
        lambda found: copy_output(
            OutputCopies(found, start=tail or BEGINNING, follow=follow, times=times), None
        ),
    )


@command(examples=("worker kill JOB", "worker kill -s HUP JOB"))
@jobs_argument
@click.option("-s", "--signal", "number", type=SIGNAL, default="KILL", show_default=True, help="Signal.")
@format_option("json", prints=SignalledObject | list[SignalledObject])
@client_options
def kill(settings: ClientSettings, chosen: ChosenJobs, number: int, form: str | None) -> None:
    """Send a signal to the main process of jobs; `worker stop` ends all processes."""
    report_each_job(
        settings,
        chosen,
        partial(_signal, number=number),
        "signalled",
        form,
        lambda job: SignalledObject(id=job, signal=number, all=False, sent=True),
        running=True,
    )


@command(examples=("worker rm JOB", "worker rm -f JOB"))
@jobs_argument
@click.option("-f", "--force", is_flag=True, help="Stop a running job before: SIGTERM, then SIGKILL.")
@format_option("json", prints=RemovedObject | list[RemovedObject])
@client_options
def rm(settings: ClientSettings, chosen: ChosenJobs, form: str | None, *, force: bool) -> None:
    """Remove finished jobs and their output, as docker rm."""
    use = _stop_and_remove if force else Job.remove
    report_each_job(
        settings,
        chosen,
        use,
        "removed",
        form,
        lambda job: RemovedObject(id=job, removed=True),
        finished=not force,
    )


@command(examples=("worker inspect JOB", "worker inspect --label team=a"))
@jobs_argument
@client_options
def inspect(settings: ClientSettings, chosen: ChosenJobs) -> None:
    """Print all facts about jobs as a JSON list, as docker inspect."""
    found: list[object] = []

    def keep(_job: Job, status: JobStatus) -> None:
        found.append(job_object(status))

    try:
        for_each_job(settings, chosen, Job.query, keep, None)
    finally:
        show_json(found)


async def _signal(job: Job, number: int) -> None:
    await job.signal(number)


async def _stop_and_remove(job: Job) -> None:
    if (await job.query()).state.over:
        await job.remove()
        return
    await job.stop()
    await job.remove()
