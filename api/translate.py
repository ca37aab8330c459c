"""Translation between messages and the core's values, in both directions.

Times are whole milliseconds on the wire. A field that is absent from a message has its default value.
The types of the core reject invalid values and name the field.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from ..core.errors import InvalidJobSpec
from ..core.model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Exited,
    Lost,
    Signaled,
    exit_code,
)
from ..core.model.execution import Execution
from ..core.model.job import (
    DEFAULT_GRACE,
    DEFAULT_LINGER,
    LARGEST_OUTPUT,
    Extent,
    JobRecord,
    JobSpec,
    JobState,
    JobStatus,
    Leftovers,
    parse_job_id,
)
from ..core.model.limits import (
    ResourceLimits,
    ResourceUsage,
)
from ..core.model.stream_start import BEGINNING, FromOffset, LastBytes, LastLines, StreamStart
from ..core.model.stream_times import StreamTimes
from ..core.model.terminal import WindowSize
from ..core.model.ulimits import Ulimit
from ..proto import worker as proto
from . import translate_resources

_STATES = {
    JobState.STARTING: proto.State.STARTING,
    JobState.RUNNING: proto.State.RUNNING,
    JobState.STOPPING: proto.State.STOPPING,
    JobState.EXITED: proto.State.EXITED,
    JobState.LOST: proto.State.LOST,
}
_CAUSES = {
    Cause.NONE: proto.Cause.NONE,
    Cause.STOPPED: proto.Cause.STOPPED,
    Cause.TIMED_OUT: proto.Cause.TIMED_OUT,
    Cause.OOM_KILLED: proto.Cause.OOM_KILLED,
}
_CHANNELS = {
    Channel.OUTPUT: proto.Channel.OUTPUT,
    Channel.STDOUT: proto.Channel.STDOUT,
    Channel.STDERR: proto.Channel.STDERR,
}
_LEFTOVERS = {Leftovers.KILL: proto.Leftovers.KILL, Leftovers.WAIT: proto.Leftovers.WAIT}

_Core = TypeVar("_Core")
_Proto = TypeVar("_Proto", bound=int)


def start_request(
    spec: JobSpec, request_id: str, secrets: Mapping[str, bytes] = MappingProxyType({})
) -> proto.StartRequest:
    """Return the request for this job."""
    return proto.StartRequest(
        name=spec.command,
        args=list(spec.args),
        env=dict(spec.env),
        working_directory=spec.working_directory,
        user=spec.user or "",
        limits=translate_resources.limits_message(spec.limits),
        labels=dict(spec.labels),
        timeout_ms=milliseconds(spec.timeout),
        grace_ms=milliseconds(spec.grace),
        request_id=request_id,
        leftovers=_LEFTOVERS[spec.leftovers],
        split_output=spec.split_output,
        output_max=spec.output_max,
        ulimits=translate_resources.ulimits_message(spec.ulimits),
        new_privileges=spec.new_privileges,
        pipe_size=spec.pipe_size,
        linger_ms=milliseconds(spec.linger),
        signal_all=spec.signal_all,
        stdin=spec.stdin,
        terminal=window_size_message(spec.terminal),
        secrets=[proto.Secret(name=name, value=value) for name, value in secrets.items()],
        job_name=spec.name,
    )


def secrets(message: proto.StartRequest) -> Mapping[str, bytes]:
    """Return the secrets of a requested job; raise InvalidJobSpec if one is given twice."""
    found: dict[str, bytes] = {}
    for each in message.secrets:
        if each.name in found:
            raise InvalidJobSpec(f"secrets.{each.name}", "is given twice")
        found[each.name] = each.value
    return found


def job_spec(message: proto.StartRequest | proto.QueryResponse) -> JobSpec:
    """Return the requested or reported job; raise InvalidJobSpec if it is invalid."""
    grace, linger = seconds(message.grace_ms), seconds(message.linger_ms)
    return JobSpec(
        command=message.name,
        args=message.args,
        env=message.env if isinstance(message, proto.StartRequest) else {},
        working_directory=message.working_directory or "/",
        user=message.user or None,
        limits=translate_resources.limits_of(message.limits)
        if isinstance(message, proto.StartRequest)
        else ResourceLimits(),
        labels=message.labels,
        timeout=seconds(message.timeout_ms),
        grace=DEFAULT_GRACE if grace is None else grace,
        leftovers=_known("leftovers", _LEFTOVERS, message.leftovers),
        split_output=message.split_output,
        output_max=message.output_max if isinstance(message, proto.StartRequest) else None,
        ulimits=[Ulimit(each.name, each.soft, each.hard) for each in message.ulimits],
        new_privileges=message.new_privileges,
        pipe_size=message.pipe_size,
        linger=DEFAULT_LINGER if linger is None else linger,
        signal_all=message.signal_all,
        stdin=message.stdin,
        terminal=None if message.terminal is None else window_size(message.terminal),
        name=message.job_name,
    )


def update_request(job: str, changes: ResourceLimits) -> proto.UpdateRequest:
    """Return the request for this change of limits."""
    return proto.UpdateRequest(job_id=job, limits=translate_resources.limits_message(changes))


def changes(message: proto.UpdateRequest) -> ResourceLimits:
    """Return the limits to change; raise InvalidJobSpec if the request has none."""
    requested = translate_resources.limits_of(message.limits)
    if requested == ResourceLimits():
        raise InvalidJobSpec("limits", "none is given; set at least one")
    return requested


def query_response(status: JobStatus) -> proto.QueryResponse:
    """Return the status as a message, without the environment."""
    record, spec = status.record, status.record.spec
    return proto.QueryResponse(
        pid=record.pid or 0,
        exit_code=exit_code(status.ending) if status.ending else 0,
        exited=status.ending is not None,
        state=_STATES[status.state],
        cause=_CAUSES[status.cause],
        signal=status.ending.number if isinstance(status.ending, Signaled) else 0,
        oom_kills=status.oom_kills,
        lost_reason=status.lost_reason,
        created_at_ms=milliseconds(record.created_at) or 0,
        started_at_ms=milliseconds(record.started_at) or 0,
        ended_at_ms=(milliseconds(record.end.ended_at) or 0) if record.end else 0,
        job_id=str(record.id),
        name=spec.command,
        args=list(spec.args),
        owner=record.owner,
        labels=dict(spec.labels),
        limits=translate_resources.limits_message(record.limits),
        usage=translate_resources.usage_message(status.usage),
        output=[
            proto.OutputSize(
                channel=_CHANNELS[channel],
                first=extent.first,
                end=extent.end,
                missing=record.end.missing.get(channel, 0) if record.end else 0,
            )
            for channel, extent in status.output.items()
        ],
        user=record.effective_user or "",
        working_directory=spec.working_directory,
        warnings=list(record.warnings),
        timeout_ms=milliseconds(spec.timeout),
        grace_ms=milliseconds(spec.grace),
        leftovers=_LEFTOVERS[spec.leftovers],
        split_output=spec.split_output,
        output_max=record.output_max,
        output_trouble=status.output_trouble,
        ulimits=translate_resources.ulimits_message(spec.ulimits),
        new_privileges=spec.new_privileges,
        pipe_size=spec.pipe_size,
        linger_ms=milliseconds(spec.linger),
        signal_all=record.signal_all,
        paused=status.paused,
        stdin=spec.stdin,
        terminal=window_size_message(spec.terminal),
        executable=record.execution.path if record.execution else "",
        wrap=list(record.execution.wrapper) if record.execution else [],
        job_name=spec.name,
    )


def job_status(message: proto.QueryResponse) -> JobStatus:
    """Return the status in a server's reply; raise InvalidJobSpec or JobNotFound if it is invalid."""
    state = _known("state", _STATES, message.state)
    cause = _known("cause", _CAUSES, message.cause)
    ending = _ending(message)
    output = {
        _known("channel", _CHANNELS, size.channel): Extent(size.first, size.end) for size in message.output
    }
    end = None
    if state.over and ending is not None:
        sizes = {channel: extent.end for channel, extent in output.items()}
        missing = {
            _known("channel", _CHANNELS, size.channel): size.missing
            for size in message.output
            if size.missing
        }
        end = End(ending, cause, message.oom_kills, sizes, message.ended_at_ms / 1000, missing)
    usage = ResourceUsage() if message.usage is None else translate_resources.usage_of(message.usage)
    record = JobRecord(
        id=parse_job_id(message.job_id),
        spec=job_spec(message),
        owner=message.owner,
        request_id="",
        created_at=message.created_at_ms / 1000,
        pid=message.pid or None,
        started_at=message.started_at_ms / 1000 if message.started_at_ms else None,
        end=end,
        limits=translate_resources.limits_of(message.limits),
        usage=usage,
        warnings=tuple(message.warnings),
        output_max=message.output_max,
        signal_all=message.signal_all,
        execution=Execution(message.executable, tuple(message.wrap)) if message.executable else None,
    )
    return JobStatus(record, state, ending, cause, usage, output, message.output_trouble, message.paused)


def channel(message: proto.StreamRequest | proto.AttachOutput) -> Channel | None:
    """Return the requested channel; None is the default channel of the job."""
    requested = known_channel(message.channel)
    return None if requested is Channel.OUTPUT else requested


def known_channel(number: proto.Channel) -> Channel:
    """Return the channel with this number on the wire; raise InvalidJobSpec if it is unknown."""
    return _known("channel", _CHANNELS, number)


def stream_start(message: proto.StreamRequest | proto.AttachOutput) -> StreamStart:
    """Return the start of a stream; an offset of 0 together with a tail means the tail.

    Raises InvalidJobSpec for an offset that a file cannot have (off_t has 63 bits), and for two starts.
    """
    if message.offset >= LARGEST_OUTPUT:
        raise InvalidJobSpec("offset", f"{message.offset} is greater than any output")
    starts: dict[str, StreamStart] = {}
    if message.offset:
        starts["offset"] = FromOffset(message.offset)
    if message.tail_lines is not None:
        starts["tail_lines"] = LastLines(message.tail_lines)
    if message.tail_bytes is not None:
        starts["tail_bytes"] = LastBytes(message.tail_bytes)
    if len(starts) > 1:
        raise InvalidJobSpec(" and ".join(starts), "a stream can start at only one of them")
    return next(iter(starts.values()), BEGINNING)


def stream_times(message: proto.StreamRequest) -> StreamTimes:
    """Return what a stream selects by time; raise InvalidJobSpec if that is invalid."""
    return StreamTimes(message.since_ms, message.until_ms, message.timestamps)


def stream_request(
    job: str, channel: Channel | None, start: StreamStart, times: StreamTimes, *, follow: bool
) -> proto.StreamRequest:
    """Return the request for this stream."""
    request = proto.StreamRequest(
        job_id=job,
        no_follow=not follow,
        channel=channel_message(channel),
        since_ms=times.since_ms,
        until_ms=times.until_ms,
        timestamps=times.timestamps,
    )
    set_start(request, start)
    return request


def set_start(request: proto.StreamRequest | proto.AttachOutput, start: StreamStart) -> None:
    """Write the start of a stream into a request."""
    match start:
        case FromOffset(offset):
            request.offset = offset
        case LastLines(count):
            request.tail_lines = count
        case LastBytes(count):
            request.tail_bytes = count


def channel_message(requested: Channel | None) -> proto.Channel:
    """Return the channel as it is requested on the wire."""
    return _CHANNELS[requested or Channel.OUTPUT]


def window_size_message(size: WindowSize | None) -> proto.WindowSize | None:
    """Return the size of a terminal as a message."""
    return None if size is None else proto.WindowSize(rows=size.rows, columns=size.columns)


def window_size(message: proto.WindowSize) -> WindowSize:
    """Return the size of a terminal; raise InvalidJobSpec if it is too large."""
    return WindowSize(message.rows, message.columns)


def milliseconds(value: float | None) -> int | None:
    """Return seconds as whole milliseconds."""
    return None if value is None else round(value * 1000)


def seconds(value: int | None) -> float | None:
    """Return milliseconds as seconds."""
    return None if value is None else value / 1000


def _known(field: str, table: Mapping[_Core, _Proto], number: int) -> _Core:
    """Return the core's value for an enum's number; a newer peer may send unknown ones."""
    for value, member in table.items():
        if member == number:
            return value
    raise InvalidJobSpec(field, f"unknown value {int(number)}; known are {', '.join(map(str, table))}")


def _ending(message: proto.QueryResponse) -> Ending | None:
    if not message.exited:
        return None
    if message.exit_code < 0:
        return Lost(message.lost_reason)
    return Signaled(message.signal) if message.signal else Exited(message.exit_code)
