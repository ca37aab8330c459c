"""The status of jobs: as lines, as tables, and as JSON (job_object.py)."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import click

from ...core.model.ending import Cause, Signaled, exit_code
from ...core.model.job import DEFAULT_GRACE, DEFAULT_LINGER, JobStatus, Leftovers
from ..options.quantities import format_duration, format_size
from .console import printable, say
from .job_object import job_object, missing_output

Command = TypeVar("Command", bound=Callable[..., object])


class FormatOption(click.Option):
    """The option -o of a command; ``prints`` is the type of its JSON."""

    def __init__(self, *names: Any, prints: object, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.prints = prints


def format_option(*formats: str, prints: object) -> Callable[[Command], Command]:
    """Add the option -o with these formats to a command, which receives it as ``form``, None by default.

    ``prints`` is the type of the JSON, of which docs/reference/json.md is made.
    """
    errors = "  Errors are JSON too, on stderr." if formats == ("json",) else ""
    return click.option(
        *("-o", "--output", "form"),
        cls=FormatOption,
        type=click.Choice(formats),
        prints=prints,
        help=f"Format of the output.{errors}",
    )


def show_json(value: object) -> None:
    """Print one JSON document."""
    say(json.dumps(value, indent=2))


def show_job(status: JobStatus, form: str | None) -> None:
    """Print one job."""
    if form == "json":
        show_json(job_object(status))
    elif form == "wide":
        say("\n".join(job_details(status)))
    else:
        say(job_line(status))
        if sys.stdout.isatty():
            say("\n".join(job_details(status)))


def job_line(status: JobStatus) -> str:
    """Return the line of the original design; the exit code is 0 until the job has ended."""
    code = exit_code(status.ending) if status.ending else 0
    exited = "true" if status.ending else "false"
    return f"Pid: {status.record.pid or 0} Exit code: {code} Exited: {exited}"


def job_details(status: JobStatus) -> list[str]:
    """Return the details of a job, one per line, without those that do not apply."""
    from .resources import limits_line, usage_details  # noqa: PLC0415 - imports the table of limits

    record = status.record
    details: list[tuple[str, object]] = [
        ("Job", record.id),
        ("Name", record.spec.name),
        ("Command", _command(status)),
        ("State", _state(status)),
        ("Pid", record.pid),
        ("Owner", record.owner),
        ("User", record.spec.user),
        ("Directory", record.spec.working_directory),
        ("Labels", _labels(status)),
        ("Timeout", None if record.spec.timeout is None else format_duration(record.spec.timeout)),
        ("Stop", _stop(status)),
        ("Leftovers", _leftovers(status)),
        ("Policy", _execution(status)),
        ("Privs", "set-user-ID programs may give it privileges" if record.spec.new_privileges else None),
        ("Pipe", f"{record.spec.pipe_size} bytes of output may wait" if record.spec.pipe_size else None),
        ("Terminal", _terminal(status)),
        ("Stdin", "attach -i writes to it" if record.spec.stdin and status.ending is None else None),
        ("Created", _local(record.created_at)),
        ("Started", _local(record.started_at)),
        ("Ended", _local(record.end.ended_at if record.end else None)),
        ("Limits", limits_line(record.limits)),
        ("Ulimits", ", ".join(map(str, record.spec.ulimits))),
        *usage_details(status.usage, running=status.ending is None),
        ("OOM kills", status.oom_kills or None),
        *(("Output", line) for line in _output(status)),
        ("Trouble", output_trouble(status.output_trouble) or output_missing(missing_output(status))),
        *(("Warning", warning) for warning in record.warnings),
    ]
    return [
        f"{name + ':':<11}{printable(str(value))}" for name, value in details if value not in {None, ""}
    ]


def output_trouble(reason: str) -> str:
    """Return why the output cannot be recorded and what that means for the job; empty if it can."""
    if not reason:
        return ""
    return f"its output cannot be recorded: {reason}; it blocks when it writes until this is fixed"


def output_missing(size: int) -> str:
    """Return what is missing of the output of a job that was stopped; empty if nothing is."""
    if not size:
        return ""
    return f"the last {size} bytes of its output could not be recorded: the disk was full or broken"


def _state(status: JobStatus) -> str:
    words = [status.state.value, *(["paused"] if status.paused else [])]
    if status.ending:
        words.append(f"exit code {exit_code(status.ending)}")
    if isinstance(status.ending, Signaled):
        words.append(f"signal {status.ending.number}")
    if status.cause is not Cause.NONE:
        words.append(status.cause.value)
    if status.lost_reason:
        words.append(status.lost_reason)
    return ", ".join(words)


def _output(status: JobStatus) -> Iterator[str]:
    most = status.record.output_max // max(1, len(status.output))
    bound = f", at most {format_size(most)}" if most else ""
    for channel, extent in status.output.items():
        yield f"{extent.end} bytes of {channel}, kept from {extent.first}{bound}"


def _command(status: JobStatus) -> str:
    return printable(shlex.join([status.record.spec.command, *status.record.spec.args]))


def _terminal(status: JobStatus) -> str:
    size = status.record.spec.terminal
    return f"{size.rows} rows and {size.columns} columns at the start" if size else ""


def _stop(status: JobStatus) -> str:
    """Return how a stop of the job differs from the default."""
    grace = status.record.spec.grace
    parts = [f"SIGKILL after {format_duration(grace)}"] if grace != DEFAULT_GRACE else []
    if status.record.signal_all:
        parts.append("every process gets the signal at once")
    return ", ".join(parts)


def _leftovers(status: JobStatus) -> str:
    """Return what happens to processes that outlive the main process, if that is not the default."""
    spec = status.record.spec
    if spec.leftovers is Leftovers.WAIT:
        return "the job goes on until they have ended"
    return f"killed after {format_duration(spec.linger)}" if spec.linger != DEFAULT_LINGER else ""


def _execution(status: JobStatus) -> str:
    """Return what the policy lets the server execute."""
    found = status.record.execution
    return shlex.join([*found.wrapper, found.path]) if found else ""


def _labels(status: JobStatus) -> str:
    return ",".join(f"{name}={value}" for name, value in status.record.spec.labels.items())


def _local(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
