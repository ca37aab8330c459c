"""`worker start`: a command becomes a job."""

from typing import Unpack

import click

from ..connection import Connection, call, connection_options
from ..options.spec import (
    JOB_COMMAND,
    JobOptions,
    job_options,
    job_spec,
)
from ..terminal.console import say
from ..terminal.show import format_option, show_json


@click.command(context_settings=JOB_COMMAND)
@job_options
@format_option("json")
@connection_options
def start(connection: Connection, form: str | None, **job: Unpack[JobOptions]) -> None:
    """Start a command as a job.

    Everything from CMD on belongs to the job, also what looks like an option.
    """
    spec, request_id = job_spec(job), job["request_id"] or ""
    job_id = call(connection, lambda client: client.start(spec, request_id=request_id))
    if form == "json":
        show_json({"id": str(job_id)})
    else:
        say(f"Job {job_id} is started")
