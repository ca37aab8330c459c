"""`worker resume`: lets paused jobs continue."""

from ...client.job import Job
from ..client_settings import ClientSettings, client_options
from ..help_page import command
from ..job_calls import report_each_job
from ..options.job import ChosenJobs, jobs_argument
from ..terminal.printed_objects import PausedObject
from ..terminal.show import format_option


@command(examples=("worker resume JOB", "worker resume --label team=a"))
@jobs_argument
@format_option("json", prints=PausedObject | list[PausedObject])
@client_options
def resume(settings: ClientSettings, chosen: ChosenJobs, form: str | None) -> None:
    """Let the processes of paused jobs continue."""
    report_each_job(
        settings,
        chosen,
        Job.resume,
        "resumed",
        form,
        lambda job: PausedObject(id=job, paused=False),
        running=True,
    )
