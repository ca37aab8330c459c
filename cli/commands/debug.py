"""`worker debug`: what a job waits for, and what server, supervisor and files know about the job."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from ...client.job import Job
from ...core.errors import JobNotFound
from ...core.model.job import JobState, JobStatus, parse_job_id
from ...linux.diagnosis.files import JobFiles, read_files
from ...linux.diagnosis.inspect import NoAnswer, inspect
from ...linux.diagnosis.waiting import waits_for
from ...linux.state.layout import Layout
from ..client_settings import ClientSettings, call_job, client_options
from ..help_page import command
from ..home import worker_home
from ..options.job import job_argument
from ..terminal.console import Failure, say
from ..terminal.debug_report import DebugReport, report_lines, report_object
from ..terminal.printed_objects import DebugObject
from ..terminal.show import format_option, show_json

PATIENCE = 5.0
"""Seconds that a connected server may take to answer."""


@command(examples=("worker debug JOB", "worker debug -o json JOB"))
@job_argument
@format_option("json", prints=DebugObject)
@client_options
def debug(settings: ClientSettings, job: str, form: str | None) -> None:
    """Show what a job waits for, and its state, processes and files.

    Queries the server and the supervisor, and reads the files in WORKER_HOME; each of them may be missing.
    To see everything, run it on the machine of the server, as the server's user or as root.
    """
    name = _id_of(settings, job)
    layout = Layout(worker_home().path)
    files = _read_files(layout, name)
    found = None if isinstance(files, str) else files
    supervisor = _ask_supervisor(layout, name, found)
    answer = None if isinstance(supervisor, NoAnswer) else supervisor
    server = _ask_server(settings, name)
    if files is None and isinstance(server, Failure) and server.code == "NOT_FOUND":
        raise server
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    known = str(server) if isinstance(server, Failure) else server
    reason = _waits_for(known, files) or waits_for(found, answer, now)
    report = DebugReport(name, known, supervisor, files, reason)
    if form == "json":
        show_json(report_object(report))
    else:
        say("\n".join(report_lines(report)))


def _id_of(settings: ClientSettings, reference: str) -> str:
    """Return the id of a job; a whole id needs no server."""
    try:
        return str(parse_job_id(reference))
    except JobNotFound:
        return call_job(settings, reference, _own_id)


async def _own_id(job: Job) -> str:
    return str(job)


def _read_files(layout: Layout, job: str) -> JobFiles | str | None:
    """Return what is on disk of the job, None if nothing is, or why it cannot be read."""
    try:
        return read_files(layout, job)
    except OSError as error:
        return f"{error.filename or layout.jobs}: {error.strerror}"


def _waits_for(server: JobStatus | str, files: JobFiles | str | None) -> str:
    """Return what the job waits for if this follows without the supervisor; otherwise an empty text."""
    if isinstance(server, JobStatus) and server.state.over:
        return "Nothing: the job has finished."
    if isinstance(server, JobStatus) and server.state is JobState.STARTING and files is None:
        return "The server to prepare the start: it journals the job, makes the cgroups, then the FIFOs."
    return f"Unknown: {files}" if isinstance(files, str) else ""


def _ask_server(settings: ClientSettings, job: str) -> JobStatus | Failure:
    """Return the server's status of the job, or why there is none."""

    async def query(found: Job) -> JobStatus:
        async with asyncio.timeout(PATIENCE):
            return await found.query()

    try:
        return call_job(settings, job, query)
    except TimeoutError:
        return Failure(f"the server has not answered for {PATIENCE:g} s", code="DEADLINE_EXCEEDED")
    except Failure as error:
        return error


def _ask_supervisor(layout: Layout, job: str, files: JobFiles | None) -> Mapping[str, Any] | NoAnswer:
    if files is None or files.history is None:
        return NoAnswer("no history names the supervisor of this job")
    if not files.supervisor:
        return NoAnswer(f"the supervisor of generation {files.history.generation} does not run")
    return inspect(layout.generation(files.history.generation), job)
