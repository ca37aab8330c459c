"""Translation between messages and the core's values loses nothing and adds nothing."""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api import translate
from worker.api.wire.decoding import decode
from worker.api.wire.encoding import encode
from worker.core.errors import InvalidJobSpec, JobNotFound
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Exited,
    Lost,
    Signaled,
)
from worker.core.model.job import (
    LARGEST_OUTPUT,
    LARGEST_PIPE,
    SMALLEST_OUTPUT,
    SMALLEST_PIPE,
    Extent,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    JobStatus,
    Leftovers,
    new_job_id,
)
from worker.core.model.limits import (
    IO_RATES,
    LIMIT_NAMES,
    CpuLimit,
    IoLimit,
    MemoryLimit,
    Pressure,
    ResourceLimits,
    ResourceUsage,
)
from worker.core.model.stream_start import FromOffset, LastBytes, LastLines, StreamStart
from worker.core.model.stream_times import ANY_TIME, StreamTimes
from worker.core.model.terminal import WindowSize
from worker.core.model.ulimits import ULIMITS, Ulimit
from worker.proto import worker as proto

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,7}", fullmatch=True)
COUNT = st.integers(1, (1 << 63) - 1)
MAYBE_COUNT = st.none() | COUNT
SIZE = st.integers(0, (1 << 64) - 1)
OUTPUT_MAX = st.just(0) | st.integers(SMALLEST_OUTPUT, LARGEST_OUTPUT)
LINES = st.integers(0, (1 << 16) - 1)
MILLISECONDS = st.integers(1, 10**11).map(lambda number: number / 1000)

set_limits = st.builds(
    ResourceLimits,
    cpu=st.builds(
        CpuLimit,
        quota=st.none() | st.integers(10, 65_536_000).map(lambda millicores: millicores / 1000),
        weight=st.none() | st.integers(1, 10_000),
    ),
    memory=st.builds(MemoryLimit, MAYBE_COUNT, MAYBE_COUNT, st.none() | st.just(0) | COUNT),
    io=st.lists(
        st.builds(IoLimit, TEXT.filter(bool), MAYBE_COUNT, MAYBE_COUNT, MAYBE_COUNT, MAYBE_COUNT),
        max_size=2,
    ).map(tuple),
    pids=MAYBE_COUNT,
    cpuset=st.none() | TEXT,
)


@st.composite
def _with_unlimited(draw: st.DrawFn) -> ResourceLimits:
    found = draw(set_limits)

    def unset(names: Sequence[str], of: ResourceLimits | IoLimit) -> tuple[str, ...]:
        return tuple(name for name in names if attrgetter(name)(of) is None and draw(st.booleans()))

    io = tuple(replace(part, unlimited=unset(IO_RATES, part)) for part in found.io)
    return replace(found, io=io, unlimited=unset(LIMIT_NAMES, found))


limits = _with_unlimited()


@st.composite
def _ulimits(draw: st.DrawFn) -> Ulimit:
    hard = draw(st.none() | st.integers(0, (1 << 64) - 2))
    soft = draw(st.none() | st.integers(0, (1 << 64) - 2)) if hard is None else draw(st.integers(0, hard))
    return Ulimit(draw(st.sampled_from(ULIMITS)), soft, hard)


ulimits = _ulimits()


def specs(**changes: st.SearchStrategy[Any]) -> st.SearchStrategy[JobSpec]:
    """Return a strategy for jobs."""
    parts: dict[str, st.SearchStrategy[Any]] = {
        "command": TEXT.filter(bool),
        "args": st.lists(TEXT, max_size=3),
        "env": st.dictionaries(NAME, TEXT, max_size=3),
        "working_directory": TEXT.map(lambda text: "/" + text),
        "user": st.none() | NAME,
        "limits": limits,
        "labels": st.dictionaries(TEXT, TEXT, max_size=3),
        "stdin": st.booleans(),
        "timeout": st.none() | MILLISECONDS,
        "grace": st.just(0.0) | MILLISECONDS,
        "leftovers": st.sampled_from(Leftovers),
        "linger": st.just(0.0) | MILLISECONDS,
        "signal_all": st.booleans(),
        "split_output": st.booleans(),
        "output_max": st.none() | OUTPUT_MAX,
        "ulimits": st.lists(ulimits, max_size=3, unique_by=lambda each: each.name),
        "new_privileges": st.booleans(),
        "pipe_size": st.none() | st.integers(SMALLEST_PIPE, LARGEST_PIPE),
        "name": st.just("") | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True),
    }
    terminals = {"terminal": st.builds(WindowSize, LINES, LINES), "split_output": st.just(False)}
    return st.builds(JobSpec, **(parts | changes)) | st.builds(JobSpec, **(parts | terminals | changes))


PERCENT = st.integers(0, 100_00).map(lambda hundredths: hundredths / 100)
pressures = st.none() | st.builds(Pressure, PERCENT, SIZE, PERCENT, SIZE)
usages = st.builds(ResourceUsage, *[st.none() | SIZE] * 9, *[pressures] * 3)
endings: st.SearchStrategy[Ending] = (
    st.builds(Exited, st.integers(0, 255)) | st.builds(Signaled, st.integers(1, 64)) | st.builds(Lost, TEXT)
)


@st.composite
def statuses(draw: st.DrawFn) -> JobStatus:
    """Return any status of a job that a server can report."""
    spec = draw(specs(env=st.just({}), limits=st.just(ResourceLimits()), output_max=st.none()))
    state = draw(st.sampled_from(JobState))
    output = {channel: Extent(*sorted((draw(SIZE), draw(SIZE)))) for channel in spec.channels}
    ending: Ending | None = None
    if state is JobState.LOST:
        ending = Lost(draw(TEXT))
    elif state is JobState.EXITED:
        ending = draw(endings.filter(lambda each: not isinstance(each, Lost)))
    elif state is JobState.STOPPING:
        ending = draw(st.none() | endings)
    cause = draw(st.sampled_from(Cause))
    usage = draw(usages)
    end = None
    if state.over and ending is not None:
        sizes = {channel: extent.end for channel, extent in output.items()}
        end = End(ending, cause, draw(SIZE), sizes, draw(MILLISECONDS))
    record = JobRecord(
        id=JobId(draw(st.uuids())),
        spec=spec,
        owner=draw(TEXT),
        request_id="",
        created_at=draw(MILLISECONDS),
        pid=draw(st.none() | st.integers(1, 1 << 22)),
        started_at=draw(st.none() | MILLISECONDS),
        end=end,
        limits=draw(limits),
        usage=usage,
        warnings=tuple(draw(st.lists(TEXT, max_size=2))),
        output_max=draw(OUTPUT_MAX),
        signal_all=spec.signal_all,
    )
    return JobStatus(record, state, ending, cause, usage, output, draw(TEXT), draw(st.booleans()))


@given(spec=specs(), request_id=TEXT)
def test_a_job_survives_the_wire(spec: JobSpec, request_id: str) -> None:
    """The server gets the client's specification unchanged."""
    message = decode(bytes(translate.start_request(spec, request_id)), proto.StartRequest)
    assert spec == translate.job_spec(message)
    assert request_id == message.request_id


@given(status=statuses())
def test_a_status_survives_the_wire(status: JobStatus) -> None:
    """The client gets the server's status, except the environment and the requested limits."""
    message = decode(bytes(translate.query_response(status)), proto.QueryResponse)
    assert status == translate.job_status(message)


@given(changes=limits)
def test_changes_of_limits_survive_the_wire(changes: ResourceLimits) -> None:
    """The server gets the requested changes, and rejects a request that changes nothing."""
    message = decode(bytes(translate.update_request("x", changes)), proto.UpdateRequest)
    assert "x" == message.job_id
    if changes == ResourceLimits():
        with pytest.raises(InvalidJobSpec, match="limits: none is given"):
            translate.changes(message)
    else:
        assert changes == translate.changes(message)


def test_an_unknown_name_of_a_limit_is_rejected() -> None:
    """A limit that is to be removed has the name of a field of its message."""
    message = proto.UpdateRequest(limits=proto.Limits(unlimited=["memory.max"]))
    with pytest.raises(
        InvalidJobSpec, match=r"limits\.unlimited: unknown limit 'memory\.max'; known are cpu"
    ):
        translate.changes(message)
    message = proto.UpdateRequest(limits=proto.Limits(io=[proto.IoLimit(device="/x", unlimited=["y"])]))
    with pytest.raises(
        InvalidJobSpec, match=r"limits\.io\.unlimited: unknown limit 'y'; known are read_bytes"
    ):
        translate.changes(message)


def status_of(ending: Ending | None, **spec: Any) -> JobStatus:
    """Return a status with this ending."""
    state = JobState.RUNNING if ending is None else JobState.STOPPING
    record = JobRecord(new_job_id(), JobSpec("x", **spec), "ann", "secret", 1.0, pid=7)
    return JobStatus(record, state, ending, Cause.NONE, ResourceUsage(), {})


@pytest.mark.parametrize(
    ("ending", "exited", "code", "signal"),
    [
        (None, False, 0, 0),
        (Exited(0), True, 0, 0),
        (Exited(255), True, 255, 0),
        (Signaled(9), True, 137, 9),
        (Lost("the machine went away"), True, -1, 0),
    ],
)
def test_the_original_fields_contain_the_ending(
    ending: Ending | None,
    exited: bool,  # noqa: FBT001 - a parameter of the test
    code: int,
    signal: int,
) -> None:
    """Once the main process has ended, they have its exit code, 128 + signal, or -1 if lost."""
    message = translate.query_response(status_of(ending))
    assert (7, exited, code, signal) == (message.pid, message.exited, message.exit_code, message.signal)


def test_the_environment_is_never_sent() -> None:
    """It may contain secrets, and a reader may query."""
    assert b"hunter2" not in bytes(translate.query_response(status_of(None, env={"PASSWORD": "hunter2"})))


def test_a_request_of_the_original_api_has_the_defaults() -> None:
    """With only name and args, everything else has its default value."""
    assert JobSpec("ls", ["/"]) == translate.job_spec(proto.StartRequest(name="ls", args=["/"]))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (proto.StartRequest(), "command"),
        (proto.StartRequest(name="a\0b"), "command"),
        (proto.StartRequest(name="x", working_directory="relative"), "working directory"),
        (proto.StartRequest(name="x", timeout_ms=0), "timeout"),
        (proto.StartRequest(name="x", timeout_ms=-1), "timeout"),
        (proto.StartRequest(name="x", timeout_ms=(1 << 63) - 1), "timeout"),
        (proto.StartRequest(name="x", grace_ms=-1), "grace"),
        (proto.StartRequest(name="x", leftovers=proto.Leftovers(9)), "leftovers"),
        (proto.StartRequest(name="x", env={"A=B": "c"}), "env"),
        (proto.StartRequest(name="x", limits=proto.Limits(cpu_quota_millicores=0)), "limits.cpu.quota"),
        (proto.StartRequest(name="x", limits=proto.Limits(memory_max=1 << 63)), "limits.memory.max"),
        (proto.StartRequest(name="x", limits=proto.Limits(pids_max=0)), "limits.pids"),
        (proto.StartRequest(name="x", limits=proto.Limits(io=[proto.IoLimit()])), "limits.io.device"),
    ],
)
def test_a_bad_request_names_the_field(message: proto.StartRequest, field: str) -> None:
    """An invalid job is rejected, and the error names the invalid field."""
    with pytest.raises(InvalidJobSpec) as caught:
        translate.job_spec(message)
    assert field == caught.value.field


def test_channels() -> None:
    """The default channel depends on the job; the others are requested by name."""
    requested = [translate.channel(proto.StreamRequest(channel=each)) for each in proto.Channel]
    assert [None, Channel.STDOUT, Channel.STDERR] == requested
    assert list(proto.Channel) == [translate.channel_message(each) for each in requested]
    with pytest.raises(InvalidJobSpec, match="channel: unknown value 5; known are output, stdout, stderr"):
        translate.channel(proto.StreamRequest(channel=proto.Channel(5)))


@pytest.mark.parametrize(("offset", "accepted"), [(0, True), ((1 << 62) - 1, True), (1 << 62, False)])
def test_an_offset_that_a_file_cannot_have(offset: int, accepted: bool) -> None:  # noqa: FBT001 - a parameter
    """It is rejected before any read."""
    message = proto.StreamRequest(offset=offset)
    if accepted:
        assert FromOffset(offset) == translate.stream_start(message)
    else:
        with pytest.raises(InvalidJobSpec, match="offset"):
            translate.stream_start(message)


def test_an_invalid_reply_is_rejected() -> None:
    """A client does not report a status that cannot be right."""
    with pytest.raises(InvalidJobSpec, match="state"):
        translate.job_status(proto.QueryResponse())
    with pytest.raises(JobNotFound):
        translate.job_status(proto.QueryResponse(state=proto.State.RUNNING))


@pytest.mark.parametrize(
    ("core", "message"), [(JobState, proto.State), (Cause, proto.Cause), (Leftovers, proto.Leftovers)]
)
def test_every_member_has_its_counterpart(core: Any, message: Any) -> None:
    """The wire and the core have the same names."""
    assert {member.name for member in core} == {member.name for member in message} - {"UNSPECIFIED"}


@pytest.mark.parametrize("start", [FromOffset(0), FromOffset(7), LastLines(0), LastLines(3), LastBytes(0)])
def test_where_a_stream_starts_survives_the_wire(start: StreamStart) -> None:
    """The server gets the start that the client requested."""
    request = translate.stream_request("x", None, start, ANY_TIME, follow=True)
    assert start == translate.stream_start(request)
    assert ANY_TIME == translate.stream_times(request)


@pytest.mark.parametrize(
    "times", [StreamTimes(0), StreamTimes(until_ms=0), StreamTimes(5, 5, timestamps=True), ANY_TIME]
)
def test_what_a_stream_selects_by_time_survives_the_wire(times: StreamTimes) -> None:
    """The server gets the times that the client requested; 0 is a time."""
    request = translate.stream_request("x", None, FromOffset(), times, follow=True)
    assert times == translate.stream_times(decode(encode(request), proto.StreamRequest))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"since_ms": -1}, "since_ms: -1; must be 0 or more"),
        ({"until_ms": -1}, "until_ms: -1; must be 0 or more"),
        ({"since_ms": 2, "until_ms": 1}, "until_ms: 1 is before since_ms, 2"),
    ],
)
def test_times_of_a_stream_that_are_rejected(fields: dict[str, int], reason: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidJobSpec, match=f"^{reason}"):
        translate.stream_times(proto.StreamRequest(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"offset": 1, "tail_lines": 1}, "offset and tail_lines"),
        ({"tail_lines": 0, "tail_bytes": 0}, "tail_lines and tail_bytes"),
    ],
)
def test_a_stream_starts_at_one_place(fields: dict[str, int], named: str) -> None:
    """Two starts contradict each other: the request is rejected, and the error names both fields."""
    with pytest.raises(InvalidJobSpec, match=f"^{named}: a stream can start at only one of them"):
        translate.stream_start(proto.StreamRequest(**fields))


def test_offset_0_beside_a_tail_means_the_tail() -> None:
    """Protocol Buffers cannot distinguish an offset of 0 from a missing one."""
    assert LastLines(2) == translate.stream_start(proto.StreamRequest(offset=0, tail_lines=2))
