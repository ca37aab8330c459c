"""Commands about jobs that are there: stop, query, list, wait, remove."""

from collections.abc import Sequence

import click

from ...core.model.ending import exit_code
from ..connection import Connection, call, connection_options
from ..options.parameters import DURATION, PAIR, SIGNAL
from ..terminal.console import note, printable, say
from ..terminal.show import (
    format_option,
    show_job,
    show_jobs,
    show_json,
)

job_argument = click.argument("job", metavar="JOB")


@click.command()
@job_argument
@click.option("--signal", type=SIGNAL, help="What to send at first.  [default: TERM]")
@click.option("--grace", type=DURATION, help="From then to SIGKILL.  [default: as set at the start]")
@format_option("json")
@connection_options
def stop(
    connection: Connection, job: str, signal: int | None, grace: float | None, form: str | None
) -> None:
    """End a job with all of its processes.

    Returns when none is left.
    """
    call(connection, lambda client: client.stop(job, signal=signal, grace=grace))
    if form == "json":
        show_json({"id": job, "stopped": True})
    else:
        say(f"Job {printable(job)} has been stopped")


@click.command()
@job_argument
@format_option("json", "wide")
@connection_options
def query(connection: Connection, job: str, form: str | None) -> None:
    """Print the status of a job."""
    show_job(call(connection, lambda client: client.query(job)), form)


@click.command("list")
@click.option("--running", is_flag=True, help="Only jobs that are not over.")
@click.option("--label", type=PAIR, multiple=True, help="Only jobs with this label; may be repeated.")
@format_option("json", "wide")
@connection_options
def list_jobs(
    connection: Connection, label: Sequence[tuple[str, str]], form: str | None, *, running: bool
) -> None:
    """Print all jobs."""
    jobs = call(connection, lambda client: client.list(labels=dict(label), running=running))
    show_jobs(jobs, form)


@click.command()
@job_argument
@format_option("json", "wide")
@connection_options
def wait(connection: Connection, job: str, form: str | None) -> None:
    """Wait for the end of a job and print its exit code."""
    status = call(connection, lambda client: client.wait(job))
    if form is not None:
        show_job(status, form)
        return
    assert status.ending is not None  # it is over
    say(str(exit_code(status.ending)))
    if status.lost_reason:
        note(f"the job is lost: {printable(status.lost_reason)}")


@click.command()
@job_argument
@format_option("json")
@connection_options
def remove(connection: Connection, job: str, form: str | None) -> None:
    """Forget a job that is over, with its output."""
    call(connection, lambda client: client.remove(job))
    if form == "json":
        show_json({"id": job, "removed": True})
    else:
        say(f"Job {printable(job)} has been removed")
