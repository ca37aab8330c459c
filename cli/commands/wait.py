"""`worker wait`: waits until jobs have finished."""

from ...client.job import Job
from ...core.model.ending import exit_code
from ...core.model.job import JobStatus
from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import for_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..terminal.console import note, printable, say
from ..terminal.job_object import JobObject, job_object
from ..terminal.show import format_option, show_job


@command(examples=("worker wait JOB  # prints its exit code", "worker wait --label team=a"))
@jobs_argument
@format_option("json", "wide", prints=JobObject | list[JobObject])
@client_options
def wait(settings: ClientSettings, chosen: ChosenJobs, form: str | None) -> None:
    """Wait until jobs have finished and print their exit codes.

    There is one line for each job, in the order of the jobs. The exit status of this command is 0 whatever
    the exit codes are: use code=$(worker wait JOB).
    """

    def show(_job: Job, status: JobStatus) -> object:
        if form == "wide":
            show_job(status, form)
        elif form is None:
            assert status.ending is not None  # it has finished
            say(str(exit_code(status.ending)))
            if status.lost_reason:
                note(f"the job is lost: {printable(status.lost_reason)}")
        return job_object(status)

    for_each_job(settings, chosen, Job.wait, show, form)
