"""What a successor of the supervisor continues."""

from worker.core import Cause, Exited, JobState
from worker.core.lifecycle import Adopted, Kill, MainEnded, StopRequested, Termination, Thaw, TimePassed

from ..support.lifecycles import GRACE, TERM, TERM_OTHERS, life


def test_a_successor_repeats_no_signal() -> None:
    """It sends the signals that are not recorded as sent, at their time."""
    first = life(StopRequested(TERM, GRACE))
    job = life(Adopted(first.termination))
    assert JobState.STOPPING is job.state
    assert Cause.STOPPED is job.cause
    assert GRACE / 2 == job.deadline
    assert [TERM_OTHERS] == job.handle(TimePassed(), GRACE / 2)
    job = life(Adopted(job.termination))
    assert [] == job.handle(TimePassed(), GRACE - 1)
    assert [Kill()] == job.handle(TimePassed(), GRACE)
    job = life(Adopted(job.termination))
    assert [Kill()] == job.handle(TimePassed(), GRACE)


def test_a_successor_continues_a_timeout() -> None:
    """The cause stays, and the timeout does not occur again."""
    first = life(timeout=2.0)
    first.handle(TimePassed(), 2.0)
    job = life(Adopted(first.termination), timeout=0.0)
    assert Cause.TIMED_OUT is job.cause
    assert 2.0 + GRACE / 2 == job.deadline


def test_a_successor_continues_a_linger() -> None:
    """The end of the main process that its predecessor recorded does not start the linger again."""
    first = life(MainEnded(Exited(3)), linger=60.0)
    job = life(Adopted(first.termination), linger=60.0)
    assert [] == job.handle(MainEnded(Exited(3)), 50.0)
    assert 60.0 == job.deadline
    assert Cause.NONE is job.cause


def test_a_successor_knows_that_the_job_is_paused() -> None:
    """A frozen job stays frozen, unless it was signalled to end."""
    assert life(Adopted(None, paused=True)).paused
    stopped = Termination(TERM, True, None, GRACE, Cause.STOPPED)
    job = life()
    assert [Thaw()] == job.handle(Adopted(stopped, paused=True), 0.0)
    assert not job.paused
