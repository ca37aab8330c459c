"""`worker start`: starts a command as a job."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job_spec import JOB_COMMAND, job_options, job_spec
from ..terminal.console import say
from ..terminal.show import format_option, show_json


@click.command(context_settings=JOB_COMMAND)
@job_options
@format_option("json")
@client_options
def start(settings: ClientSettings, request_id: str, form: str | None, **job: object) -> None:
    """Start a command as a job.

    Everything from CMD on belongs to the job, including arguments that look like options. A limit
    with the value `unlimited`, also `max`, replaces the default of the server.
    """
    spec = job_spec(job)
    job_id = call(settings, lambda client: client.start(spec, request_id=request_id))
    if form == "json":
        show_json({"id": str(job_id)})
    else:
        say(f"Job {job_id} is started")
