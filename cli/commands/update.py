"""`worker update`: changes the limits of a running job."""

import click

from ...core.model.limits import ResourceLimits
from ..client_settings import ClientSettings, call_job, client_options
from ..help_page import command
from ..options.job import job_argument
from ..options.job_spec import invalid_specs_rejected
from ..options.limits import limit_options, resource_limits
from ..terminal.console import printable, say
from ..terminal.printed_objects import UpdatedObject
from ..terminal.show import format_option, show_json


@command(examples=("worker update --memory 2G JOB", "worker update --cpu unlimited JOB"))
@limit_options
@job_argument
@format_option("json", prints=UpdatedObject)
@client_options
def update(settings: ClientSettings, job: str, form: str | None, **limits: object) -> None:
    """Change the limits of a running job.

    Limits that are not given stay as they are. The value `unlimited`, also `max`, removes a limit.
    """
    with invalid_specs_rejected():
        changes = resource_limits(limits)
    if changes == ResourceLimits():
        raise click.UsageError("no limit to change is given; name one, such as --memory 1G")
    call_job(settings, job, lambda found: found.update(changes))
    if form == "json":
        show_json(UpdatedObject(id=job, updated=True))
    else:
        say(f"Job {printable(job)} has been updated")
