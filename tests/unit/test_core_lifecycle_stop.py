"""How a stop and a timeout end a job: which processes get which signal when."""

import signal

import pytest

from worker.core import Cause, Ending, Exited, JobState, Leftovers, Signaled
from worker.core.lifecycle import (
    AFTER_MAIN,
    KILL_AGAIN,
    AllEnded,
    Drain,
    Event,
    Kill,
    Lifecycle,
    MainEnded,
    SendSignal,
    Started,
    StopRequested,
    TimePassed,
    Whom,
)

from ..support.lifecycles import GRACE, TERM, TERM_ALL, TERM_MAIN, TERM_OTHERS, end_of, life


def test_stop_signals_then_kills_after_the_grace_period() -> None:
    """The main process gets the requested signal at once; SIGKILL comes at the end of the grace period."""
    job = life()
    assert [SendSignal(signal.SIGINT, Whom.MAIN)] == job.handle(StopRequested(signal.SIGINT, 3.0), 100.0)
    assert JobState.STOPPING is job.state
    assert [SendSignal(signal.SIGINT, Whom.OTHERS)] == job.handle(TimePassed(), 101.5)
    assert 103.0 == job.deadline
    assert [] == job.handle(TimePassed(), 102.9)
    assert [Kill()] == job.handle(TimePassed(), 103.0)


def test_the_others_are_signalled_shortly_after_the_main_process_has_ended() -> None:
    """A filter that reads from the main process then has time to write the rest."""
    job = life(StopRequested(TERM, GRACE))
    assert GRACE / 2 == job.deadline
    assert [] == job.handle(MainEnded(Exited(5)), 3.0)
    assert 3.0 + AFTER_MAIN == job.deadline
    assert TERM == job.next_signal
    assert [TERM_OTHERS] == job.handle(TimePassed(), 3.0 + AFTER_MAIN)
    assert GRACE == job.deadline
    assert signal.SIGKILL == job.next_signal


def test_the_others_are_signalled_after_half_of_the_grace_period() -> None:
    """A main process that waits for its child may need the signal there."""
    job = life(StopRequested(TERM, GRACE))
    assert [] == job.handle(TimePassed(), GRACE / 2 - 0.1)
    assert [TERM_OTHERS] == job.handle(TimePassed(), GRACE / 2)
    assert [] == job.handle(MainEnded(Exited(0)), GRACE / 2 + 1)
    assert GRACE == job.deadline


def test_the_end_of_the_main_process_does_not_delay_the_others() -> None:
    """Half of the grace period remains the latest moment."""
    job = life(StopRequested(TERM, GRACE))
    assert [] == job.handle(MainEnded(Exited(0)), GRACE / 2 - 0.1)
    assert GRACE / 2 == job.deadline


@pytest.mark.parametrize(("linger", "wait"), [(0.05, 0.05), (60.0, AFTER_MAIN)])
def test_the_others_wait_at_most_the_linger(linger: float, wait: float) -> None:
    """A job with a short linger ends sooner."""
    job = life(StopRequested(TERM, GRACE), linger=linger)
    job.handle(MainEnded(Exited(0)), 1.0)
    assert 1.0 + wait == job.deadline


def test_the_others_do_not_wait_without_a_linger() -> None:
    """With a linger of 0 they get the signal at the end of the main process."""
    job = life(StopRequested(TERM, GRACE), linger=0.0)
    assert [TERM_OTHERS] == job.handle(MainEnded(Exited(0)), 1.0)


def test_all_are_signalled_if_the_main_process_ignores_the_signal() -> None:
    """It would not end by the signal, so the worker does not wait for it."""
    job = life()
    assert [TERM_ALL] == job.handle(StopRequested(TERM, GRACE, ignored={signal.SIGHUP, TERM}), 0.0)
    assert GRACE == job.deadline


def test_another_ignored_signal_does_not_matter() -> None:
    """Only the signal of the stop counts."""
    job = life()
    assert [TERM_MAIN] == job.handle(StopRequested(TERM, GRACE, ignored={signal.SIGHUP}), 0.0)


def test_signal_all_of_the_stop() -> None:
    """Every process is signalled at once, and none again when the main process has ended."""
    job = life()
    assert [TERM_ALL] == job.handle(StopRequested(TERM, GRACE, signal_all=True), 0.0)
    assert [] == job.handle(MainEnded(Signaled(TERM)), 1.0)
    assert GRACE == job.deadline


def test_signal_all_of_the_job() -> None:
    """It applies to each stop, and to the timeout."""
    assert [TERM_ALL] == life(signal_all=True).handle(StopRequested(TERM, GRACE), 0.0)
    assert [TERM_ALL] == life(signal_all=True, timeout=2.0).handle(TimePassed(), 2.0)


def test_kill_is_repeated_until_all_processes_have_ended() -> None:
    """A process that forks during SIGKILL may survive; the next SIGKILL ends it."""
    job = life(StopRequested(signal.SIGKILL, GRACE))
    for number in range(1, 5):
        at = number * KILL_AGAIN
        assert at == job.deadline
        assert [Kill()] == job.handle(TimePassed(), at)
    job.handle(MainEnded(Signaled(signal.SIGKILL)), 5.0)
    assert [Kill()] == job.handle(TimePassed(), 6.0)
    assert [Drain()] == job.handle(AllEnded(), 6.0)
    assert job.deadline is None
    assert [] == job.handle(TimePassed(), 1000.0)


@pytest.mark.parametrize("stop", [StopRequested(signal.SIGKILL, GRACE), StopRequested(TERM, 0.0)])
def test_stop_without_grace_kills_at_once(stop: StopRequested) -> None:
    """SIGKILL, or any signal without a grace period, kills every process immediately."""
    job = life()
    assert [Kill()] == job.handle(stop, 0.0)


def test_a_second_stop_joins_the_first() -> None:
    """It sends no second signal and does not delay SIGKILL."""
    job = life(StopRequested(TERM, 5.0, signal_all=True))
    assert [] == job.handle(StopRequested(signal.SIGINT, 60.0), 1.0)
    assert 5.0 == job.deadline


def test_a_second_stop_can_shorten_the_grace_period() -> None:
    """The earlier of two times applies, for the other processes and for SIGKILL."""
    job = life(StopRequested(TERM, 5.0))
    assert [] == job.handle(StopRequested(TERM, 0.6), 2.0)
    assert 2.3 == job.deadline
    assert [TERM_OTHERS] == job.handle(TimePassed(), 2.3)
    assert 2.6 == job.deadline


def test_a_second_stop_with_signal_all_signals_the_others() -> None:
    """The main process has got the signal of the first stop, and the others get the same one now."""
    job = life(StopRequested(TERM, GRACE))
    assert [TERM_OTHERS] == job.handle(StopRequested(signal.SIGINT, GRACE, signal_all=True), 1.0)
    assert [] == job.handle(StopRequested(TERM, GRACE, signal_all=True), 2.0)


def test_a_second_stop_by_sigkill_kills_at_once() -> None:
    """SIGKILL does not wait for the grace period of the first stop."""
    job = life(StopRequested(TERM, 60.0))
    assert [Kill()] == job.handle(StopRequested(signal.SIGKILL, 60.0), 1.0)


def test_a_stop_after_the_kill_changes_nothing() -> None:
    """SIGKILL is repeated at its own interval, whatever other stops request."""
    job = life(StopRequested(signal.SIGKILL, 0.0))
    assert [] == job.handle(StopRequested(signal.SIGKILL, 0.0), 0.5)
    assert KILL_AGAIN == job.deadline


def test_a_stop_while_draining_changes_nothing() -> None:
    """No process remains to be signalled, and the cause does not change."""
    job = life(AllEnded(), MainEnded(Exited(0)))
    assert [] == job.handle(StopRequested(TERM, GRACE), 0.0)
    assert Cause.NONE is end_of(job).cause


@pytest.mark.parametrize("ending", [Signaled(TERM), Signaled(signal.SIGKILL), Exited(0)])
def test_the_cause_of_a_stopped_job_is_stopped(ending: Ending) -> None:
    """This holds for any ending, also for a program that catches SIGTERM and exits with 0."""
    job = life(StopRequested(TERM, GRACE), MainEnded(ending), AllEnded())
    assert Cause.STOPPED is end_of(job).cause


def test_timeout_counts_from_the_start() -> None:
    """At the timeout the job is stopped by SIGTERM, with its own grace period."""
    job = Lifecycle(timeout=2.0, grace=GRACE, leftovers=Leftovers.KILL)
    job.handle(Started(), 50.0)
    assert 52.0 == job.deadline
    assert [] == job.handle(TimePassed(), 51.0)
    assert [TERM_MAIN] == job.handle(TimePassed(), 52.5)
    assert [TERM_OTHERS] == job.handle(TimePassed(), 52.5 + GRACE / 2)
    assert 52.5 + GRACE == job.deadline
    assert [Kill()] == job.handle(TimePassed(), 52.5 + GRACE)
    job.handle(MainEnded(Signaled(signal.SIGKILL)), 63.0)
    job.handle(AllEnded(), 63.0)
    assert Cause.TIMED_OUT is end_of(job).cause


def test_the_timeout_of_a_main_process_that_ignores_sigterm() -> None:
    """All processes are signalled at once, as by a stop."""
    assert [TERM_ALL] == life(timeout=2.0).handle(TimePassed(ignored={TERM}), 2.0)


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        (StopRequested(TERM, 100.0), TimePassed(), Cause.STOPPED),
        (TimePassed(), StopRequested(TERM, 0.0), Cause.TIMED_OUT),
    ],
)
def test_the_first_cause_is_kept(first: Event, second: Event, cause: Cause) -> None:
    """A later stop or timeout does not replace the cause."""
    job = life(timeout=2.0)
    job.handle(first, 2.0)
    job.handle(second, 2.0)
    assert cause is job.cause


def test_the_timeout_applies_to_leftovers() -> None:
    """It ends leftovers that are waited for, but is not the cause of the end of the main process."""
    job = life(MainEnded(Exited(0)), timeout=2.0, leftovers=Leftovers.WAIT)
    assert 2.0 == job.deadline
    assert [TERM_OTHERS] == job.handle(TimePassed(), 2.0)
    assert Cause.NONE is job.cause
