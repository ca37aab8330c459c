"""What happens to processes that outlive the main process."""

import signal

from worker.core import Cause, Channel, End, Exited, JobState, Leftovers, Signaled
from worker.core.lifecycle import (
    AFTER_MAIN,
    LEFTOVER_GRACE,
    AllEnded,
    Drain,
    Kill,
    MainEnded,
    SendSignal,
    StopRequested,
    TimePassed,
    Whom,
)

from ..support.lifecycles import GRACE, TERM, TERM_OTHERS, end_of, life


def test_leftovers_have_time_to_end_then_are_terminated_then_killed() -> None:
    """Processes that outlive the main process get SIGTERM after the linger, SIGKILL two seconds later."""
    job = life(linger=3.0)
    assert [] == job.handle(MainEnded(Exited(0)), 10.0)
    assert 13.0 == job.deadline
    assert [TERM_OTHERS] == job.handle(TimePassed(), 13.0)
    assert 13.0 + LEFTOVER_GRACE == job.deadline
    assert [Kill()] == job.handle(TimePassed(), 13.0 + LEFTOVER_GRACE)
    job.handle(AllEnded(), 16.0)
    assert Cause.NONE is end_of(job).cause


def test_leftovers_are_terminated_at_once_without_a_linger() -> None:
    """This is the behaviour of versions without a linger."""
    job = life(linger=0.0)
    assert [TERM_OTHERS] == job.handle(MainEnded(Exited(0)), 10.0)
    assert 10.0 + LEFTOVER_GRACE == job.deadline


def test_leftovers_that_end_during_the_linger_get_no_signal() -> None:
    """The job is finished as soon as they have ended."""
    job = life(MainEnded(Exited(0)))
    assert [Drain()] == job.handle(AllEnded(), 0.5)
    assert job.deadline is None


def test_leftovers_can_be_waited_for() -> None:
    """With ``wait`` no signal is sent until a stop."""
    job = life(leftovers=Leftovers.WAIT)
    assert [] == job.handle(MainEnded(Exited(0)), 0.0)
    assert job.deadline is None
    assert JobState.STOPPING is job.state
    assert [TERM_OTHERS] == job.handle(StopRequested(TERM, GRACE), 5.0)
    job.handle(AllEnded(), 6.0)
    assert End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 7}, 99.0) == end_of(job)


def test_a_stop_shortens_the_linger() -> None:
    """Leftovers get the signal of the stop, as if it had been requested before the main process ended."""
    job = life(MainEnded(Exited(0)), linger=60.0)
    assert [] == job.handle(StopRequested(signal.SIGINT, GRACE), 0.1)
    assert AFTER_MAIN == job.deadline
    assert [SendSignal(signal.SIGINT, Whom.OTHERS)] == job.handle(TimePassed(), AFTER_MAIN)
    assert 0.1 + GRACE == job.deadline
    assert Cause.NONE is job.cause


def test_a_stop_does_not_lengthen_the_linger() -> None:
    """Leftovers get each signal no later than without the stop."""
    job = life(MainEnded(Exited(0)), linger=0.1)
    assert [] == job.handle(StopRequested(TERM, 60.0), 0.05)
    assert 0.1 == job.deadline
    assert [TERM_OTHERS] == job.handle(TimePassed(), 0.1)
    assert 0.1 + LEFTOVER_GRACE == job.deadline


def test_the_timeout_shortens_the_linger() -> None:
    """It counts on after the end of the main process."""
    job = life(MainEnded(Exited(0)), timeout=2.0, linger=60.0)
    assert [TERM_OTHERS] == job.handle(TimePassed(), 2.0)
    assert 2.0 + GRACE == job.deadline


def test_the_timeout_does_not_apply_to_leftovers_that_were_signalled() -> None:
    """Their SIGKILL is due already."""
    job = life(MainEnded(Exited(0)), timeout=1.0, linger=0.0)
    assert LEFTOVER_GRACE == job.deadline
    assert [] == job.handle(TimePassed(), 1.5)


def test_leftovers_of_a_stopped_job_have_the_same_deadline() -> None:
    """The end of the main process does not extend the grace period of a stop."""
    job = life(StopRequested(TERM, 5.0, signal_all=True))
    assert [] == job.handle(MainEnded(Signaled(TERM)), 4.0)
    assert 5.0 == job.deadline
