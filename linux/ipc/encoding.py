"""Values of the core as JSON objects, in messages and in histories.

Without cattrs: the supervisor uses this, and must stay small.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...core.errors import IncompatibleAdapters
from ...core.model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Exited,
    Lost,
    Signaled,
)
from ...core.model.job import JobSpec, Leftovers
from ...core.ports import (
    AppendedFile,
    Placement,
    Progress,
    RecordedFifo,
    Sink,
    SinkKind,
)
from ..kernel import rlimits
from .dataclass_messages import from_message, to_message

if TYPE_CHECKING:
    from .framing import Message


@dataclass(frozen=True, slots=True)
class SpawnPlan:
    """All that the supervisor needs to run a job, with every name resolved.

    The environment of ``spec`` is complete. ``uid`` None: the supervisor's own user. ``groups`` are
    supplementary. ``no_new_privs``: as of prctl(2).
    """

    spec: JobSpec
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    placement: Placement = field(default_factory=Placement)
    sinks: Mapping[Channel, Sink] = field(default_factory=dict)
    no_new_privs: bool = False
    message: "Message | None" = field(default=None, compare=False, repr=False)
    """What this plan was read from: it need not be encoded again."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Command and arguments."""
        spec = self.spec
        if spec.execution is not None:
            return spec.execution.argv(spec.command, spec.args)
        return (spec.command, *spec.args)

    @property
    def executable(self) -> str:
        """The file to execute, or a name that is looked up in the job's PATH."""
        return self.spec.command if self.spec.execution is None else self.spec.execution.file

    @property
    def env(self) -> Mapping[str, str]:
        """The complete environment."""
        return self.spec.env

    @property
    def working_directory(self) -> str:
        """Where the command is executed."""
        return self.exact_directory or self.spec.working_directory

    @property
    def exact_directory(self) -> str:
        """The working directory if it must be entered without following links; else empty."""
        return "" if self.spec.execution is None else self.spec.execution.directory

    @property
    def rlimits(self) -> tuple[tuple[int, int, int], ...]:
        """Number, soft and hard limit for setrlimit(2), with RLIM_INFINITY as 2^64 - 1."""
        return tuple(
            (rlimits.NUMBERS[each.name], rlimits.value(each.soft), rlimits.value(each.hard))
            for each in self.spec.ulimits
        )

    @property
    def recorded(self) -> Mapping[Channel, RecordedFifo]:
        """The channels that the recorder records."""
        return {channel: sink for channel, sink in self.sinks.items() if isinstance(sink, RecordedFifo)}

    @property
    def fifos(self) -> tuple[str, ...]:
        """The paths of all FIFOs."""
        return tuple(sink.path for sink in self.recorded.values())


def plan_to_message(plan: SpawnPlan, directory: str) -> "Message":
    """Write a plan; IncompatibleAdapters for a sink that no supervisor supports.

    Paths in the job's ``directory`` are written relative to it: WORKER_HOME may be moved between two
    supervisors. Do not change the message: a plan that was read from one is written as that.
    """
    if plan.message is not None:
        return plan.message
    return {
        "spec": to_message(plan.spec),
        "uid": plan.uid,
        "gid": plan.gid,
        "groups": list(plan.groups),
        "placement": placement_to_message(plan.placement),
        "sinks": {channel: _sink_to_message(sink, directory) for channel, sink in plan.sinks.items()},
        "no_new_privs": plan.no_new_privs,
    }


def plan_from_message(message: Mapping[str, Any], directory: str) -> SpawnPlan:
    """Read a plan of the job with this directory; also one of the versions that had no ``spec`` in it."""
    known = None
    if "spec" in message:
        known = dict(message)
        spec = from_message(JobSpec, message["spec"])
        sinks = {
            Channel(channel): _sink_from_message(sink, directory)
            for channel, sink in message["sinks"].items()
        }
    else:
        spec, sinks = _flat_spec(message), _flat_sinks(message, directory)
    return SpawnPlan(
        spec=spec,
        uid=message["uid"],
        gid=message["gid"],
        groups=tuple(message["groups"]),
        placement=placement_from_message(message["placement"]),
        sinks=sinks,
        no_new_privs=message.get("no_new_privs", False),
        message=known,
    )


def _flat_spec(message: Mapping[str, Any]) -> JobSpec:
    """Read what commit 9acfd5d and earlier wrote side by side."""
    command, *args = message["argv"]
    return JobSpec(
        command,
        args,
        env=message["env"],
        working_directory=message["working_directory"],
        timeout=message["timeout"],
        grace=message["grace"],
        leftovers=Leftovers(message["leftovers"]),
        split_output=Channel.STDERR in message["channels"],
    )


def _flat_sinks(message: Mapping[str, Any], directory: str) -> dict[Channel, Sink]:
    size, most = message["segment_size"], message.get("most_segments", 0)
    return {
        Channel(channel): RecordedFifo(f"{directory}/{channel}.fifo", directory, size, most)
        for channel in message["channels"]
    }


def _sink_to_message(sink: Sink, directory: str) -> "Message":
    if not isinstance(sink, tuple(_SINKS.values())):
        raise IncompatibleAdapters(f"the supervisor supports no sinks of kind {sink.kind}")
    paths = {name: _relative(getattr(sink, name), directory) for name in _PATHS if hasattr(sink, name)}
    return {"kind": sink.kind, **to_message(sink), **paths}


def _sink_from_message(message: Mapping[str, Any], directory: str) -> Sink:
    paths = {name: _absolute(message[name], directory) for name in _PATHS if name in message}
    sink: Sink = from_message(_SINKS[message["kind"]], {**message, **paths})
    return sink


_SINKS: Mapping[str, type[Sink]] = {
    SinkKind.RECORDED_FIFO: RecordedFifo,
    SinkKind.APPENDED_FILE: AppendedFile,
}
_PATHS = ("path", "directory")


def _relative(path: str, directory: str) -> str:
    """Return a path below a directory relative to it, "" for the directory itself."""
    if path == directory:
        return ""
    below = path.removeprefix(f"{directory}/")
    return path if below.startswith("/") else below  # "DIRECTORY//x" would be read as "/x"


def _absolute(path: str, directory: str) -> str:
    if not path:
        return directory
    return path if path.startswith("/") else f"{directory}/{path}"


def placement_to_message(placement: Placement) -> "Message":
    """Write a placement."""
    return {  # all fields: a server of the version before needs them
        "unified": placement.unified,
        "legacy": list(placement.legacy),
        "oom_events": placement.oom_events,
    }


def placement_from_message(message: Mapping[str, Any]) -> Placement:
    """Read a placement."""
    return from_message(Placement, message)


def progress_to_message(progress: Progress) -> "Message":
    """Write the progress of a job."""
    return {
        "state": progress.state,
        "ending": ending_to_message(progress.ending),
        "cause": progress.cause,
        "output_trouble": progress.output_trouble,
        "paused": progress.paused,
    }


def ending_to_message(ending: Ending | None) -> "Message | None":
    """Write how a main process ended; None if it has not."""
    match ending:
        case None:
            return None
        case Exited(code):
            return {"exited": code}
        case Signaled(number):
            return {"signaled": int(number)}
        case Lost(reason):
            return {"lost": reason}


def ending_from_message(message: Mapping[str, Any] | None) -> Ending | None:
    """Read how a main process ended."""
    match message:
        case None:
            return None
        case {"exited": code}:
            return Exited(code)
        case {"signaled": number}:
            return Signaled(number)
        case {"lost": reason}:
            return Lost(reason)
    raise ValueError(f"no ending: {message!r}")


def end_to_message(end: End) -> "Message":
    """Write the end of a job."""
    return {
        "ending": ending_to_message(end.ending),
        "cause": end.cause,
        "oom_kills": end.oom_kills,
        "output": dict(end.output),
        "ended_at": end.ended_at,
        **({"missing": dict(end.missing)} if end.missing else {}),
    }


def end_from_message(message: Mapping[str, Any]) -> End:
    """Read the end of a job."""
    ending = ending_from_message(message["ending"])
    assert ending is not None
    return End(
        ending,
        Cause(message["cause"]),
        message["oom_kills"],
        {Channel(channel): size for channel, size in message["output"].items()},
        message["ended_at"],
        {Channel(channel): size for channel, size in message.get("missing", {}).items()},
    )
