"""The status of jobs: as lines, as tables, and as JSON.

The JSON of a job is an object with these keys, in this order. Keys may be added, but are never
renamed. A value that is unknown or does not apply is null.

    id, name, state, exited, exit_code, signal, cause, oom_kills, lost_reason, pid,
    command, args, working_directory, user, owner, labels,
    created_at, started_at, ended_at    times in UTC, as 2026-01-31T12:00:00.123Z
    limits    the current limits: the fields of ResourceLimits (core/model/limits.py)
    usage     the fields of ResourceUsage (core/model/limits.py)
    output    for each channel {first, end}: the offsets of the bytes that are stored
    output_max      the most bytes of output that are stored, of all channels together
    output_trouble  why its output cannot be recorded at present; the job blocks when it writes
    output_missing  bytes of the end of its output that a full disk has cost: a stop does not wait for space
    paused          whether its processes are frozen
    linger          seconds that processes have to end by themselves after the main process
    signal_all      whether a stop signals every process at once
    warnings  what this machine does not support for the job, as text
    ulimits   for each ulimit that was requested {soft, hard}; null: unlimited
    new_privileges  whether set-user-ID programs may give it privileges although its user was changed
    pipe_size       the bytes of output that may wait to be recorded, if requested
    stdin           whether it reads what clients pass to it; otherwise its stdin is /dev/null
    terminal        {rows, columns} of its terminal at the start; null: it has none
    executable      the file that the policy of the server has found for the command; null: no policy
    wrap            command and arguments that the policy has put before it

``exit_code`` is 128 + signal after a signal and -1 for a lost job.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar

import click

from ...core.model.ending import Cause, Signaled, exit_code
from ...core.model.job import JobStatus
from ...core.model.limits import ResourceLimits
from ..options.quantities import format_size
from .console import printable, say

Command = TypeVar("Command", bound=Callable[..., object])


def format_option(*formats: str) -> Callable[[Command], Command]:
    """Add the option -o with these formats to a command, which receives it as ``form``, None by default."""
    return click.option("-o", "--output", "form", type=click.Choice(formats), help="Format of the output.")


def show_json(value: object) -> None:
    """Print one JSON document."""
    say(json.dumps(value, indent=2))


def confirm(job: str, done: str, form: str | None, **facts: object) -> None:
    """Print that a command has done this to a job; as JSON, these facts."""
    if form == "json":
        show_json({"id": job, **facts})
    else:
        say(f"Job {printable(job)} has been {done}")


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


def job_object(status: JobStatus) -> dict[str, object]:
    """Return the object described in the docstring of this module."""
    record, ending = status.record, status.ending
    return {
        "id": str(record.id),
        "name": record.spec.name or None,
        "state": status.state.value,
        "exited": ending is not None,
        "exit_code": exit_code(ending) if ending else None,
        "signal": ending.number if isinstance(ending, Signaled) else None,
        "cause": None if status.cause is Cause.NONE else status.cause.value,
        "oom_kills": status.oom_kills,
        "lost_reason": status.lost_reason or None,
        "pid": record.pid,
        "command": record.spec.command,
        "args": list(record.spec.args),
        "working_directory": record.spec.working_directory,
        "user": record.spec.user,
        "owner": record.owner,
        "labels": dict(record.spec.labels),
        "created_at": _timestamp(record.created_at),
        "started_at": _timestamp(record.started_at),
        "ended_at": _timestamp(record.end.ended_at if record.end else None),
        "limits": _limits(record.limits),
        "usage": asdict(status.usage),
        "output": {channel.value: asdict(extent) for channel, extent in status.output.items()},
        "output_max": record.output_max or None,
        "output_trouble": status.output_trouble or None,
        "output_missing": _missing(status),
        "paused": status.paused,
        "linger": record.spec.linger,
        "signal_all": record.signal_all,
        "warnings": list(record.warnings),
        "ulimits": {each.name: {"soft": each.soft, "hard": each.hard} for each in record.spec.ulimits},
        "new_privileges": record.spec.new_privileges,
        "pipe_size": record.spec.pipe_size,
        "stdin": record.spec.stdin,
        "terminal": asdict(record.spec.terminal) if record.spec.terminal else None,
        "executable": record.execution.path if record.execution else None,
        "wrap": list(record.execution.wrapper) if record.execution else [],
    }


def _limits(limits: ResourceLimits) -> dict[str, object]:
    """Return the limits in effect; what a request removes is not among them."""
    found = asdict(limits)
    for part in (found, *found["io"]):
        del part["unlimited"]
    return found


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
        ("Terminal", _terminal(status)),
        ("Stdin", "attach -i writes to it" if record.spec.stdin and status.ending is None else None),
        ("Created", _local(record.created_at)),
        ("Started", _local(record.started_at)),
        ("Ended", _local(record.end.ended_at if record.end else None)),
        ("Limits", limits_line(record.limits)),
        ("Ulimits", ", ".join(map(str, record.spec.ulimits))),
        *usage_details(status.usage),
        ("OOM kills", status.oom_kills or None),
        *(("Output", line) for line in _output(status)),
        ("Trouble", output_trouble(status.output_trouble) or output_missing(_missing(status))),
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


def _missing(status: JobStatus) -> int:
    return sum(status.record.end.missing.values()) if status.record.end else 0


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


def _labels(status: JobStatus) -> str:
    return ",".join(f"{name}={value}" for name, value in status.record.spec.labels.items())


def _timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _local(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
