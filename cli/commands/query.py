"""`worker query`: the status of jobs."""

from ...client.job import Job
from ...core.model.job import JobStatus
from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import for_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..terminal.job_object import JobObject, job_object
from ..terminal.show import format_option, show_job


@command(examples=("worker query JOB", "worker query -o wide @last"))
@jobs_argument
@format_option("json", "wide", prints=JobObject | list[JobObject])
@client_options
def query(settings: ClientSettings, chosen: ChosenJobs, form: str | None) -> None:
    """Print the status of jobs.

    JOB is an id, the beginning of one, a name (--name of `worker start`), or @last: the job that you have
    started last. On a terminal, details follow the line.
    """

    def show(_job: Job, status: JobStatus) -> object:
        if form != "json":
            show_job(status, form)
        return job_object(status)

    for_each_job(settings, chosen, Job.query, show, form)
