"""`worker remove`: removes finished jobs."""

from ...client.job import Job
from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import report_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..terminal.printed_objects import RemovedObject
from ..terminal.show import format_option


@command(examples=("worker remove JOB", "worker remove --label team=a"))
@jobs_argument
@format_option("json", prints=RemovedObject | list[RemovedObject])
@client_options
def remove(settings: ClientSettings, chosen: ChosenJobs, form: str | None) -> None:
    """Remove finished jobs and their output."""
    report_each_job(
        settings,
        chosen,
        Job.remove,
        "removed",
        form,
        lambda job: RemovedObject(id=job, removed=True),
        finished=True,
    )
