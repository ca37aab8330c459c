"""The display of jobs: exact lines, a stable JSON, a table."""

from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from worker.api import translate
from worker.cli.terminal.job_object import JobObject, job_object
from worker.cli.terminal.resources import limits_line, usage_details
from worker.cli.terminal.show import job_details, job_line
from worker.core.model.ending import (
    Cause,
    Channel,
    Ending,
    Exited,
    Lost,
    Signaled,
)
from worker.core.model.job import (
    Extent,
    JobSpec,
)
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    Pressure,
    ResourceLimits,
    ResourceUsage,
)
from worker.core.model.terminal import WindowSize
from worker.proto import worker as proto

from ..support.job_statuses import JOB, job


@pytest.mark.parametrize(
    ("ending", "line"),
    [
        (Exited(0), "Pid: 63136 Exit code: 0 Exited: true"),
        (Exited(255), "Pid: 63136 Exit code: 255 Exited: true"),
        (Signaled(9), "Pid: 63136 Exit code: 137 Exited: true"),
        (Lost("reboot"), "Pid: 63136 Exit code: -1 Exited: true"),
        (None, "Pid: 63136 Exit code: 0 Exited: false"),
    ],
)
def test_the_line_of_the_original_design(ending: Ending | None, line: str) -> None:
    """Query prints exactly the line in the design."""
    assert line == job_line(job(ending))


def test_a_job_that_has_not_started_has_no_pid() -> None:
    """The pid is shown as 0 before the job has started."""
    running = job(None)
    starting = replace(running, record=replace(running.record, pid=None, started_at=None))
    assert "Pid: 0 Exit code: 0 Exited: false" == job_line(starting)


def test_the_json_has_all_keys_in_every_state() -> None:
    """The documented keys are present in every state."""
    for ending in (None, Exited(1), Signaled(15), Lost("reboot")):
        assert list(get_type_hints(JobObject)) == list(job_object(job(ending)))


def test_the_json_has_all_limits_and_usage() -> None:
    """The keys of limits and usage are never renamed."""
    limits = ResourceLimits(io=(IoLimit("/dev/vda"),))
    pressure = Pressure(1.0, 2, 3.0, 4)
    usage = ResourceUsage(cpu_pressure=pressure, memory_pressure=pressure, io_pressure=pressure)
    status = job(None)
    shown = job_object(replace(status, record=replace(status.record, limits=limits), usage=usage))
    rates = ("read_bytes_per_second", "write_bytes_per_second")
    operations = ("read_operations_per_second", "write_operations_per_second")
    assert {
        "cpu": dict.fromkeys(("quota", "weight")),
        "memory": dict.fromkeys(("max", "high", "swap_max")),
        "io": ({"device": "/dev/vda", **dict.fromkeys((*rates, *operations))},),
        "pids": None,
        "cpuset": None,
    } == shown["limits"]
    waited = {"some_avg10": 1.0, "some_total_usec": 2, "full_avg10": 3.0, "full_total_usec": 4}
    assert {
        **dict.fromkeys(("cpu_usec", "throttled_usec", "memory_current", "memory_peak", "pids_current")),
        **dict.fromkeys(("io_read_bytes", "io_write_bytes", "io_read_operations", "io_write_operations")),
        **{f"{resource}_pressure": waited for resource in ("cpu", "memory", "io")},
    } == shown["usage"]


def test_the_json_of_a_killed_job() -> None:
    """Signals, causes and times have plain values."""
    shown = job_object(job(Signaled(15), cause=Cause.TIMED_OUT))
    assert (143, 15, "timed out") == (shown["exit_code"], shown["signal"], shown["cause"])
    assert "1970-01-01T00:00:01.250Z" == shown["started_at"]
    assert {"output": {"first": 0, "end": 3}} == shown["output"]


def test_a_limit_that_is_none_is_shown_as_unlimited() -> None:
    """A number from which on the kernel has no limit, in v1 the largest number of whole pages."""
    none, largest = (1 << 63) - 1, ((1 << 63) - 1) & -4096
    limits = ResourceLimits(memory=MemoryLimit(none, largest, 1 << 40), pids=none)
    assert "memory unlimited, memory-high unlimited, swap 1T, pids unlimited" == limits_line(limits)


def test_details_omit_empty_fields() -> None:
    """A detail that does not apply is not shown."""
    lines = job_details(job(Signaled(9), cause=Cause.OOM_KILLED))
    assert "State:     exited, exit code 137, signal 9, OOM killed" in lines
    names = {line.split(":")[0] for line in lines}
    assert {"Job", "Command", "State", "Pid", "Owner", "Directory"} < names
    assert not {"User", "Labels", "Limits", "CPU", "Memory", "Pressure", "OOM kills"} & names


@pytest.mark.parametrize(("running", "text"), [(True, "160K now"), (False, "160K at the end")])
def test_only_a_running_job_uses_memory_now(*, running: bool, text: str) -> None:
    """Of one that has ended, the memory in use is that of its end."""
    usage = ResourceUsage(memory_current=160 << 10, memory_peak=1 << 20)
    assert f"{text}, 1M peak" == dict(usage_details(usage, running=running))["Memory"]


def test_output_bound_and_trouble_are_shown() -> None:
    """The details have the bound, what is stored, and why the job blocks when the disk is full."""
    running = job(None)
    assert "Output:    3 bytes of output, kept from 0" in job_details(running)
    assert (None, None) == (job_object(running)["output_max"], job_object(running)["output_trouble"])
    bounded = replace(
        running,
        record=replace(running.record, output_max=1 << 20),
        output={Channel.STDOUT: Extent(5, 9), Channel.STDERR: Extent(0, 0)},
        output_trouble="No space left on device",
    )
    lines = job_details(bounded)
    assert "Output:    9 bytes of stdout, kept from 5, at most 512K" in lines
    assert "Output:    0 bytes of stderr, kept from 0, at most 512K" in lines
    assert (
        "Trouble:   its output cannot be recorded: No space left on device; "
        "it blocks when it writes until this is fixed" in lines
    )
    shown = job_object(bounded)
    assert (1 << 20, "No space left on device") == (shown["output_max"], shown["output_trouble"])


def test_the_terminal_is_shown() -> None:
    """The details have its size; a job without one has no such detail."""
    status = job(None, JobSpec("sh", terminal=WindowSize(24, 80)))
    assert "Terminal:  24 rows and 80 columns at the start" in job_details(status)
    assert {"rows": 24, "columns": 80} == job_object(status)["terminal"]
    assert job_object(job(None))["terminal"] is None


def test_a_paused_job_is_shown_as_paused() -> None:
    """Its state is shown beside it."""
    paused = replace(job(None), paused=True)
    assert job_object(paused)["paused"]
    assert "State:     running, paused" in job_details(paused)


def test_limits_and_usage_have_units() -> None:
    """Limits have the names of their options; the current ones are shown, not the requested ones."""
    status = job(Signaled(9), JobSpec("ls", limits=ResourceLimits(pids=3)), Cause.OOM_KILLED)
    assert status.record.end is not None
    record = replace(
        status.record,
        limits=ResourceLimits(
            CpuLimit(0.5, 200),
            MemoryLimit(100 << 20, swap_max=0),
            (IoLimit("/dev/vda", 4 << 20, None, None, 500),),
            pids=50,
            cpuset="0-1",
        ),
        end=replace(status.record.end, oom_kills=2),
    )
    usage = ResourceUsage(
        cpu_usec=3_210_000,
        throttled_usec=500_000,
        memory_peak=105_000_000,
        pids_current=3,
        io_read_bytes=4096,
        io_read_operations=1,
        io_write_bytes=0,
        memory_pressure=Pressure(12.34, 1_500_000, 0.0, 12_000),
    )
    lines = job_details(replace(status, record=record, usage=usage))
    assert [
        (
            "Limits:    cpu 0.5, cpu-weight 200, cpus 0-1, memory 100M, swap 0, pids 50, "
            "io-read /dev/vda=4M, io-write-iops /dev/vda=500"
        ),
        "CPU:       3.21s used, 500ms throttled",
        "Memory:    100.1M peak",
        "Processes: 3",
        "I/O:       4K read in 1 operation, 0 written",
        "Pressure:  memory some 12.34% (1.50s) full 0% (12ms)",
        "OOM kills: 2",
    ] == [line for line in lines if line.startswith(("Lim", "CPU", "Mem", "Proc", "I/O", "Pres", "OOM"))]
    assert 50 == job_object(replace(status, record=record))["limits"]["pids"]


def test_control_characters_are_escaped() -> None:
    """Control characters in a job's command do not reach the terminal."""
    evil = job(None, JobSpec("echo", ["\x1b[2J\n"]))
    assert r"Command:   echo '\x1b[2J\n'" in job_details(evil)


EVERYTHING = proto.QueryResponse(
    pid=5,
    exit_code=137,
    exited=True,
    state=proto.State.EXITED,
    cause=proto.Cause.OOM_KILLED,
    signal=9,
    oom_kills=2,
    created_at_ms=1000,
    started_at_ms=2000,
    ended_at_ms=3000,
    job_id=str(JOB),
    name="sleep",
    args=["1000"],
    owner="ann",
    labels={"a": "b"},
    limits=proto.Limits(pids_max=5),
    usage=proto.Usage(cpu_microseconds=6),
    output=[proto.OutputSize(channel=proto.Channel.STDOUT, first=1, end=2, missing=3)],
    user="nobody",
    working_directory="/tmp",
    warnings=["a warning"],
    timeout_ms=60_000,
    grace_ms=7000,
    leftovers=proto.Leftovers.WAIT,
    split_output=True,
    output_max=1 << 20,
    output_trouble="No space left on device",
    linger_ms=8000,
    signal_all=True,
    paused=True,
    ulimits=[proto.Ulimit(name="nofile", soft=1, hard=2)],
    new_privileges=True,
    pipe_size=1 << 16,
    stdin=True,
    executable="/bin/sleep",
    wrap=["nice"],
    job_name="build",
)
"""A reply with a value in each field; ``lost_reason`` and ``terminal`` are in CHANGED."""

CHANGED = {
    "lost_reason": {"exit_code": -1, "state": proto.State.LOST, "lost_reason": "reboot"},
    "leftovers": {"leftovers": proto.Leftovers.KILL},
    "signal": {"signal": 15, "exit_code": 143},
    "exit_code": {"signal": 0, "exit_code": 1},
    "exited": {"exited": False, "state": proto.State.RUNNING},
    "state": {"state": proto.State.STOPPING},
    "cause": {"cause": proto.Cause.STOPPED},
    "name": {"name": "true"},
    "terminal": {"terminal": proto.WindowSize(rows=24, columns=80), "split_output": False},
    "job_id": {"job_id": "62a6c4a5-51a3-4d84-ae0b-e2d64d1bb6b5"},
}
"""Other values of fields that cannot simply be absent, with the fields that depend on them."""

ONLY_IF_KILLED = {"linger_ms": {"leftovers": proto.Leftovers.KILL}}
NOT_IN_DETAILS = {"split_output"}
"""What the details show by the channels of the output."""


def other(field: str) -> proto.QueryResponse:
    """Return the reply with another value of one field."""
    return replace(EVERYTHING, **CHANGED.get(field, {field: getattr(proto.QueryResponse(), field)}))


FIELDS = [each.name for each in fields(EVERYTHING)]


@pytest.mark.parametrize("field", FIELDS)
def test_the_json_has_every_field_on_the_wire(field: str) -> None:
    """What a reply has of a job is in its JSON."""
    known, changed = (job_object(translate.job_status(each)) for each in (EVERYTHING, other(field)))
    assert known != changed


@pytest.mark.parametrize("field", [each for each in FIELDS if each not in NOT_IN_DETAILS])
def test_the_details_have_every_field_on_the_wire(field: str) -> None:
    """What a reply has of a job is in the output of `-o wide`; a job without stdin cannot get any."""
    given = ONLY_IF_KILLED.get(
        field, {"exited": False, "state": proto.State.RUNNING} if field == "stdin" else {}
    )
    before, after = (replace(each, **given) for each in (EVERYTHING, other(field)))
    assert job_details(translate.job_status(before)) != job_details(translate.job_status(after))
