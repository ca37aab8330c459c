"""How values of the core are written in messages and in the supervisor's histories.

By hand and without cattrs: the supervisor reads them too, and must stay small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Exited,
    Lost,
    Signaled,
)
from ...core.model.job import Leftovers
from ...core.ports import Placement

if TYPE_CHECKING:
    from .framing import Message


@dataclass(frozen=True, slots=True)
class SpawnPlan:
    """All that the supervisor needs to run a job: names are looked up, nothing is left to choose.

    ``uid`` None: the supervisor's own user. ``groups`` are supplementary. Times in seconds.
    ``most_segments`` are kept of each channel, 0: all.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    working_directory: str
    uid: int | None
    gid: int | None
    groups: tuple[int, ...]
    placement: Placement
    channels: tuple[Channel, ...]
    segment_size: int
    timeout: float | None
    grace: float
    leftovers: Leftovers
    most_segments: int = 0


def plan_to_message(plan: SpawnPlan) -> "Message":
    """Write a plan."""
    return {
        "argv": list(plan.argv),
        "env": dict(plan.env),
        "working_directory": plan.working_directory,
        "uid": plan.uid,
        "gid": plan.gid,
        "groups": list(plan.groups),
        "placement": placement_to_message(plan.placement),
        "channels": list(plan.channels),
        "segment_size": plan.segment_size,
        "timeout": plan.timeout,
        "grace": plan.grace,
        "leftovers": plan.leftovers,
        "most_segments": plan.most_segments,
    }


def plan_from_message(message: Mapping[str, Any]) -> SpawnPlan:
    """Read a plan."""
    return SpawnPlan(
        argv=tuple(message["argv"]),
        env=message["env"],
        working_directory=message["working_directory"],
        uid=message["uid"],
        gid=message["gid"],
        groups=tuple(message["groups"]),
        placement=placement_from_message(message["placement"]),
        channels=tuple(Channel(each) for each in message["channels"]),
        segment_size=message["segment_size"],
        timeout=message["timeout"],
        grace=message["grace"],
        leftovers=Leftovers(message["leftovers"]),
        most_segments=message.get("most_segments", 0),
    )


def placement_to_message(placement: Placement) -> "Message":
    """Write where a job was born."""
    return {
        "unified": placement.unified,
        "legacy": list(placement.legacy),
        "oom_events": placement.oom_events,
    }


def placement_from_message(message: Mapping[str, Any]) -> Placement:
    """Read where a job was born."""
    return Placement(message["unified"], tuple(message["legacy"]), message["oom_events"])


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
    )
