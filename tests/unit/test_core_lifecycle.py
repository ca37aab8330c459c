"""The usual order of events, and whose SIGKILL it was; test_core_lifecycle_orders.py tests every order."""

import signal

import pytest

from worker.core import Cause, Channel, End, Exited, JobState, Lost, Signaled
from worker.core.lifecycle import AllEnded, Drain, Event, MainEnded, StopRequested

from ..support.lifecycles import GRACE, TERM, end_of, life


def test_a_job_that_exits_is_drained_then_finished() -> None:
    """The job finishes once all processes have ended and the output is recorded."""
    job = life()
    assert JobState.RUNNING is job.state
    assert job.deadline is None
    assert [] == job.handle(MainEnded(Exited(3)), 1.0)
    assert [Drain()] == job.handle(AllEnded(), 1.0)
    assert JobState.STOPPING is job.state
    assert End(Exited(3), Cause.NONE, 0, {Channel.OUTPUT: 7}, 99.0) == end_of(job)
    assert JobState.EXITED is job.state


def test_all_ended_may_precede_main_ended() -> None:
    """The order of the two does not matter; a zombie is no leftover and gets no signal."""
    job = life()
    assert [] == job.handle(AllEnded(), 0.0)
    assert JobState.RUNNING is job.state
    assert [Drain()] == job.handle(MainEnded(Exited(0)), 0.0)
    assert JobState.STOPPING is job.state


def test_all_ended_may_be_repeated() -> None:
    """The second event changes nothing."""
    job = life(AllEnded())
    assert [] == job.handle(AllEnded(), 0.0)
    job.handle(MainEnded(Exited(0)), 0.0)
    assert [] == job.handle(AllEnded(), 0.0)


def test_a_lost_ending_makes_the_job_lost() -> None:
    """A job whose ending is lost is LOST instead of EXITED."""
    job = life(AllEnded(), MainEnded(Lost("not observed")))
    assert Lost("not observed") == end_of(job).ending
    assert JobState.LOST is job.state


def test_the_ending_is_known_while_leftovers_remain() -> None:
    """The ending is available as soon as the main process has ended."""
    job = life(MainEnded(Exited(5)))
    assert Exited(5) == job.ending
    assert JobState.STOPPING is job.state


def test_a_sigkill_by_the_oom_killer() -> None:
    """OOM_KILLED: a SIGKILL that we did not send ended the main process, and oom_kill has increased."""
    job = life(MainEnded(Signaled(signal.SIGKILL), oom_kills=1), AllEnded(oom_kills=3))
    end = end_of(job)
    assert Cause.OOM_KILLED is end.cause
    assert 3 == end.oom_kills


@pytest.mark.parametrize(
    ("before", "main"),
    [
        ([], MainEnded(Signaled(signal.SIGKILL), oom_kills=0)),  # kill -9 from elsewhere
        ([], MainEnded(Exited(1), oom_kills=1)),  # a child was killed, and the main process exited
        ([], MainEnded(Signaled(signal.SIGSEGV), oom_kills=1)),
        ([StopRequested(TERM, GRACE)], MainEnded(Signaled(signal.SIGKILL), oom_kills=1)),
        ([StopRequested(signal.SIGKILL, 0.0)], MainEnded(Signaled(signal.SIGKILL), oom_kills=1)),
    ],
)
def test_no_other_end_is_attributed_to_the_oom_killer(before: list[Event], main: MainEnded) -> None:
    """The end has the count of OOM kills, and another cause."""
    end = end_of(life(*before, main, AllEnded()))
    assert Cause.OOM_KILLED is not end.cause
    assert main.oom_kills == end.oom_kills


def test_an_oom_kill_that_all_ended_reports_counts() -> None:
    """All processes may be reported as ended before the main process is reaped."""
    job = life(AllEnded(oom_kills=1), MainEnded(Signaled(signal.SIGKILL)))
    assert Cause.OOM_KILLED is end_of(job).cause
