"""Pausing a job: what freezes it, what lets it continue, and what counts meanwhile."""

import signal

import pytest

from worker.core import Exited, Signaled
from worker.core.lifecycle import (
    AllEnded,
    Freeze,
    Kill,
    MainEnded,
    PauseRequested,
    ResumeRequested,
    SendSignal,
    StopRequested,
    Thaw,
    TimePassed,
)

from ..support.lifecycles import GRACE, TERM, TERM_ALL, TERM_MAIN, TERM_OTHERS, finished, life, unstarted


def test_a_paused_job_can_be_resumed() -> None:
    """Each takes effect once; a repetition changes nothing."""
    job = life()
    assert [Freeze()] == job.handle(PauseRequested(), 1.0)
    assert job.paused
    assert [] == job.handle(PauseRequested(), 1.0)
    assert [Thaw()] == job.handle(ResumeRequested(), 2.0)
    assert not job.paused
    assert [] == job.handle(ResumeRequested(), 2.0)


@pytest.mark.parametrize(
    ("stop", "action"),
    [
        (StopRequested(TERM, GRACE), TERM_MAIN),
        (StopRequested(TERM, GRACE, signal_all=True), TERM_ALL),
        (StopRequested(signal.SIGKILL, GRACE), Kill()),
    ],
)
def test_a_stop_thaws_the_job_after_the_signal(stop: StopRequested, action: SendSignal | Kill) -> None:
    """The processes find the signal as soon as they continue."""
    job = life(PauseRequested())
    assert [action, Thaw()] == job.handle(stop, 1.0)
    assert not job.paused


def test_the_timeout_counts_while_the_job_is_paused() -> None:
    """It thaws the job, as a stop does."""
    job = life(PauseRequested(), timeout=2.0)
    assert [TERM_MAIN, Thaw()] == job.handle(TimePassed(), 2.0)


def test_paused_leftovers_are_thawed_by_their_signal() -> None:
    """The linger counts while they are paused."""
    job = life(PauseRequested(), MainEnded(Signaled(signal.SIGKILL)))
    assert job.paused
    assert [TERM_OTHERS, Thaw()] == job.handle(TimePassed(), 1.0)


def test_pausable() -> None:
    """A job can be paused until a process was signalled to end."""
    assert not unstarted().pausable
    assert life().pausable
    assert life(MainEnded(Exited(0))).pausable
    assert not life(StopRequested(TERM, GRACE)).pausable
    assert not life(MainEnded(Exited(0)), linger=0.0).pausable
    assert not life(MainEnded(Exited(0)), AllEnded()).pausable
    assert not finished().pausable
