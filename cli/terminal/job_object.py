"""The JSON of a job. Keys may be added, but are never renamed.

docs/reference/json.md is generated from these types, see printed_objects.py.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, cast

from ...core.model.ending import Cause, Signaled, exit_code

if TYPE_CHECKING:
    from typing import TypedDict

    from ...core.model.job import JobStatus
    from ...core.model.limits import ResourceLimits
else:  # to create so many real ones would take milliseconds at the start of each command
    TypedDict = dict


class CpuLimitObject(TypedDict):
    """The limits of CPU time."""

    quota: Annotated[float | None, "Cores; 0.5 is half a core."]
    weight: Annotated[int | None, "Its share under contention, 1 to 10000; 100 is that of other jobs."]


class MemoryLimitObject(TypedDict):
    """The limits of memory, in bytes."""

    max: Annotated[int | None, "With more, the kernel kills processes (OOM)."]
    high: Annotated[int | None, "With more, the kernel slows the job down and reclaims memory."]
    swap_max: Annotated[int | None, "The most swap."]


class IoLimitObject(TypedDict):
    """The limits of one block device."""

    device: Annotated[str, "As it was requested."]
    read_bytes_per_second: Annotated[int | None, ""]
    write_bytes_per_second: Annotated[int | None, ""]
    read_operations_per_second: Annotated[int | None, ""]
    write_operations_per_second: Annotated[int | None, ""]


class LimitsObject(TypedDict):
    """The limits that are in effect for a job; null: none."""

    cpu: Annotated[CpuLimitObject, ""]
    memory: Annotated[MemoryLimitObject, ""]
    io: Annotated[list[IoLimitObject], ""]
    pids: Annotated[int | None, "The most processes and threads."]
    cpuset: Annotated[str | None, "The CPUs it may use, such as 0-2,4."]


class PressureObject(TypedDict):
    """How long a job waited for a resource (PSI): `some` of its processes, or all of them (`full`)."""

    some_avg10: Annotated[float, "Percent of the last ten seconds."]
    some_total_usec: Annotated[int, "In total, in microseconds."]
    full_avg10: Annotated[float, "Percent of the last ten seconds."]
    full_total_usec: Annotated[int, "In total, in microseconds."]


class UsageObject(TypedDict):
    """What a job has used until now, or in total; null: this machine does not count it for the job."""

    cpu_usec: Annotated[int | None, "CPU time in microseconds."]
    throttled_usec: Annotated[int | None, "How long the CPU limit has stopped it, in microseconds."]
    memory_current: Annotated[int | None, "Bytes."]
    memory_peak: Annotated[int | None, "The most bytes until now."]
    pids_current: Annotated[int | None, "Processes and threads."]
    io_read_bytes: Annotated[int | None, ""]
    io_write_bytes: Annotated[int | None, ""]
    io_read_operations: Annotated[int | None, ""]
    io_write_operations: Annotated[int | None, ""]
    cpu_pressure: Annotated[PressureObject | None, ""]
    memory_pressure: Annotated[PressureObject | None, ""]
    io_pressure: Annotated[PressureObject | None, ""]


class ExtentObject(TypedDict):
    """Which bytes of a channel are stored."""

    first: Annotated[int, "The offset of the first one."]
    end: Annotated[int, "The offset after the last one: all that was written until now."]


class UlimitObject(TypedDict):
    """A ulimit, in the unit of setrlimit(2); null: unlimited."""

    soft: Annotated[int | None, ""]
    hard: Annotated[int | None, ""]


class TerminalObject(TypedDict):
    """The size of a terminal, in characters."""

    rows: Annotated[int, ""]
    columns: Annotated[int, ""]


class JobObject(TypedDict):
    """A job. What is unknown or does not apply is null. Times are in UTC, as 2026-01-31T12:00:00.123Z."""

    id: Annotated[str, "A UUID."]
    name: Annotated[str | None, "That of `--name`."]
    state: Annotated[str, "starting, running, stopping, exited or lost."]
    exited: Annotated[bool, "Whether its main process has ended."]
    exit_code: Annotated[int | None, "128 + N if signal N ended it; -1 for a lost job."]
    signal: Annotated[int | None, "The signal that ended it."]
    cause: Annotated[str | None, "Why it ended if not by itself: stopped, timed out or OOM killed."]
    oom_kills: Annotated[int, "How many of its processes the kernel has killed for lack of memory."]
    lost_reason: Annotated[str | None, "Why its end is not known."]
    pid: Annotated[int | None, "That of its main process."]
    command: Annotated[str, ""]
    args: Annotated[list[str], "Long ones are shortened in a list."]
    working_directory: Annotated[str, ""]
    user: Annotated[str | None, "That of `--user`."]
    owner: Annotated[str, "The name in the certificate of the client that started it."]
    labels: Annotated[dict[str, str], ""]
    created_at: Annotated[str | None, "When the server accepted it."]
    started_at: Annotated[str | None, ""]
    ended_at: Annotated[str | None, "When its last process had ended."]
    limits: Annotated[LimitsObject, ""]
    usage: Annotated[UsageObject, ""]
    output: Annotated[dict[str, ExtentObject], "By channel: output, or stdout and stderr."]
    output_max: Annotated[
        int | None, "The most bytes of output that are kept, of all channels together; null: all."
    ]
    output_trouble: Annotated[
        str | None, "Why its output cannot be recorded now; it blocks when it writes."
    ]
    output_missing: Annotated[
        int, "Bytes at the end of its output that could not be recorded on a full disk."
    ]
    paused: Annotated[bool, "Whether its processes are frozen."]
    timeout: Annotated[float | None, "Seconds after which it is stopped."]
    grace: Annotated[float, "Seconds that a stop gives its processes before SIGKILL."]
    leftovers: Annotated[str, "What happens to processes that outlive the main process: kill or wait."]
    linger: Annotated[
        float, "Seconds that such processes have to end by themselves before they are killed."
    ]
    signal_all: Annotated[bool, "Whether a stop signals every process at once."]
    split_output: Annotated[bool, "Whether stdout and stderr are channels of their own."]
    warnings: Annotated[list[str], "What this machine does not support for the job."]
    ulimits: Annotated[dict[str, UlimitObject], "Those that were requested, by name."]
    new_privileges: Annotated[
        bool, "Whether set-user-ID programs may give it privileges although its user was changed."
    ]
    pipe_size: Annotated[int | None, "Bytes of output that may wait to be recorded, if requested."]
    stdin: Annotated[bool, "Whether it reads what clients pass to it; otherwise its stdin is /dev/null."]
    terminal: Annotated[TerminalObject | None, "The size at the start; null: it has no terminal."]
    executable: Annotated[str | None, "The file that the policy of the server has found for the command."]
    wrap: Annotated[list[str], "Command and arguments that the policy has put before it."]


def job_object(status: JobStatus) -> JobObject:
    """Return the JSON of a job."""
    record, spec, ending = status.record, status.record.spec, status.ending
    return {
        "id": str(record.id),
        "name": spec.name or None,
        "state": status.state.value,
        "exited": ending is not None,
        "exit_code": exit_code(ending) if ending else None,
        "signal": ending.number if isinstance(ending, Signaled) else None,
        "cause": None if status.cause is Cause.NONE else status.cause.value,
        "oom_kills": status.oom_kills,
        "lost_reason": status.lost_reason or None,
        "pid": record.pid,
        "command": spec.command,
        "args": list(spec.args),
        "working_directory": spec.working_directory,
        "user": spec.user,
        "owner": record.owner,
        "labels": dict(spec.labels),
        "created_at": _timestamp(record.created_at),
        "started_at": _timestamp(record.started_at),
        "ended_at": _timestamp(record.end.ended_at if record.end else None),
        "limits": _limits(record.limits),
        "usage": cast("UsageObject", asdict(status.usage)),
        "output": {
            channel.value: {"first": extent.first, "end": extent.end}
            for channel, extent in status.output.items()
        },
        "output_max": record.output_max or None,
        "output_trouble": status.output_trouble or None,
        "output_missing": missing_output(status),
        "paused": status.paused,
        "timeout": spec.timeout,
        "grace": spec.grace,
        "leftovers": spec.leftovers.value,
        "linger": spec.linger,
        "signal_all": record.signal_all,
        "split_output": spec.split_output,
        "warnings": list(record.warnings),
        "ulimits": {each.name: {"soft": each.soft, "hard": each.hard} for each in spec.ulimits},
        "new_privileges": spec.new_privileges,
        "pipe_size": spec.pipe_size,
        "stdin": spec.stdin,
        "terminal": cast("TerminalObject", asdict(spec.terminal)) if spec.terminal else None,
        "executable": record.execution.path if record.execution else None,
        "wrap": list(record.execution.wrapper) if record.execution else [],
    }


def missing_output(status: JobStatus) -> int:
    """Return how many bytes of the end of the output could not be recorded."""
    return sum(status.record.end.missing.values()) if status.record.end else 0


def _limits(limits: ResourceLimits) -> LimitsObject:
    """Return the limits in effect; what a request removes is not among them."""
    found = asdict(limits)
    for part in (found, *found["io"]):
        del part["unlimited"]
    return cast("LimitsObject", found)


def _timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
