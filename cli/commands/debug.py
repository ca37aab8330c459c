"""`worker debug`: what a job waits for, and what server, supervisor and files know about the job."""

import time
from collections.abc import Mapping
from typing import Any

import click

from ...core.errors import JobNotFound
from ...core.model.job import JobStatus, parse_job_id
from ...linux.diagnosis.files import JobFiles, read_files
from ...linux.diagnosis.inspect import NoAnswer, inspect
from ...linux.diagnosis.waiting import waits_for
from ...linux.state.layout import Layout
from ..client_settings import ClientSettings, call, client_options
from ..home import worker_home
from ..options.job import job_argument
from ..terminal.console import Failure, say
from ..terminal.debug_report import DebugReport, report_lines, report_object
from ..terminal.show import format_option, show_json


@click.command()
@job_argument
@format_option("json")
@client_options
def debug(settings: ClientSettings, job: str, form: str | None) -> None:
    """Show what a job waits for, and its state, processes and files.

    Queries the server and the supervisor, and reads the files in WORKER_HOME; each of them may be missing.
    To see everything, run it on the machine of the server, as the server's user or as root.
    """
    try:
        name = str(parse_job_id(job))
    except JobNotFound as error:
        raise Failure(str(error)) from None
    layout = Layout(worker_home().path)
    files = read_files(layout, name)
    supervisor = _ask_supervisor(layout, name, files)
    answer = None if isinstance(supervisor, NoAnswer) else supervisor
    server = _ask_server(settings, name)
    if files is None and isinstance(server, str) and server.endswith(str(JobNotFound(name))):
        raise Failure(server)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    finished = not isinstance(server, str) and server.state.over
    reason = "Nothing: the job has finished." if finished else waits_for(files, answer, now)
    report = DebugReport(name, server, supervisor, files, reason)
    if form == "json":
        show_json(report_object(report))
    else:
        say("\n".join(report_lines(report)))


def _ask_server(settings: ClientSettings, job: str) -> JobStatus | str:
    """Return the server's status of the job, or why there is none."""
    try:
        return call(settings, lambda client: client.query(job))
    except Failure as error:
        return str(error)


def _ask_supervisor(layout: Layout, job: str, files: JobFiles | None) -> Mapping[str, Any] | NoAnswer:
    if files is None or files.history is None:
        return NoAnswer("no history names the supervisor of this job")
    if not files.supervisor:
        return NoAnswer(f"the supervisor of generation {files.history.generation} does not run")
    return inspect(layout.generation(files.history.generation), job)
