"""`worker pause`: freezes jobs."""

from ...client.job import Job
from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import report_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..terminal.printed_objects import PausedObject
from ..terminal.show import format_option


@command(examples=("worker pause JOB", "worker pause --label team=a"))
@jobs_argument
@format_option("json", prints=PausedObject | list[PausedObject])
@client_options
def pause(settings: ClientSettings, chosen: ChosenJobs, form: str | None) -> None:
    """Freeze all processes of jobs.

    They continue with `worker resume`. The timeout of the job goes on counting; a stop resumes it.
    """
    report_each_job(
        settings,
        chosen,
        Job.pause,
        "paused",
        form,
        lambda job: PausedObject(id=job, paused=True),
        running=True,
    )
