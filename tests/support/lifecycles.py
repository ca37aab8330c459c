"""Life cycles of jobs, and the events and actions that their tests share."""

import signal

from worker.core import Channel, End, Exited, Leftovers
from worker.core.lifecycle import (
    AllEnded,
    Event,
    Finish,
    Lifecycle,
    MainEnded,
    OutputDrained,
    SendSignal,
    Started,
    Whom,
)

GRACE = 10.0
TERM = signal.SIGTERM
DRAINED = OutputDrained({Channel.OUTPUT: 7}, at=99.0)
TERM_MAIN = SendSignal(TERM, Whom.MAIN)
TERM_OTHERS = SendSignal(TERM, Whom.OTHERS)
TERM_ALL = SendSignal(TERM, Whom.ALL)


def life(
    *events: Event,
    timeout: float | None = None,
    leftovers: Leftovers = Leftovers.KILL,
    linger: float = 1.0,
    signal_all: bool = False,
) -> Lifecycle:
    """Return a job that was started at time 0 and has processed these events."""
    job = Lifecycle(timeout=timeout, grace=GRACE, leftovers=leftovers, linger=linger, signal_all=signal_all)
    for event in (Started(), *events):
        job.handle(event, 0.0)
    return job


def end_of(job: Lifecycle) -> End:
    """Drain the output of a job and return its end."""
    [finish] = job.handle(DRAINED, 0.0)
    assert isinstance(finish, Finish)
    return finish.end


def unstarted() -> Lifecycle:
    """Return a job that has not started."""
    return Lifecycle(timeout=1.0, grace=GRACE, leftovers=Leftovers.KILL)


def finished() -> Lifecycle:
    """Return a job that has finished."""
    return life(MainEnded(Exited(0)), AllEnded(), DRAINED)


def state_of(job: Lifecycle) -> dict[str, object]:
    """Return all attributes of a job."""
    return {name: getattr(job, name) for name in Lifecycle.__slots__}
