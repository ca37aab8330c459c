"""The rules of the life cycle by example; test_core_lifecycle_orders.py tests every order of events."""

import signal
from collections.abc import Callable

import pytest

from worker.core import Cause, Channel, End, Ending, Exited, JobState, Leftovers, Lost, Signaled
from worker.core.lifecycle import (
    AFTER_MAIN,
    KILL_AGAIN,
    LEFTOVER_GRACE,
    Adopted,
    AllEnded,
    Drain,
    Event,
    Finish,
    Freeze,
    InvalidTransition,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    PauseRequested,
    ResumeRequested,
    SendSignal,
    Started,
    StopRequested,
    Termination,
    Thaw,
    TimePassed,
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


# --- the usual order


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


# --- stop and escalation


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


# --- timeout


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


# --- leftovers


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


# --- pause


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


# --- what a successor of the supervisor continues


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


# --- out of memory


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


# --- invalid transitions

EVERY_EVENT: list[Event] = [
    Started(),
    Adopted(),
    StopRequested(TERM, GRACE),
    PauseRequested(),
    ResumeRequested(),
    MainEnded(Exited(0)),
    AllEnded(),
    DRAINED,
]


def unstarted() -> Lifecycle:
    """Return a job that has not started."""
    return Lifecycle(timeout=1.0, grace=GRACE, leftovers=Leftovers.KILL)


def finished() -> Lifecycle:
    """Return a job that has finished."""
    return life(MainEnded(Exited(0)), AllEnded(), DRAINED)


INVALID: list[tuple[Callable[[], Lifecycle], Event]] = [
    *((unstarted, event) for event in EVERY_EVENT[1:]),
    *((finished, event) for event in EVERY_EVENT),
    (life, Started()),
    (life, DRAINED),
    (lambda: life(StopRequested(TERM, GRACE)), PauseRequested()),
    (lambda: life(StopRequested(TERM, GRACE)), Adopted()),
    (lambda: life(AllEnded(), MainEnded(Exited(0))), PauseRequested()),
    (lambda: life(MainEnded(Exited(0))), MainEnded(Exited(1))),
    (lambda: life(MainEnded(Exited(0))), DRAINED),
    (lambda: life(AllEnded()), DRAINED),
]


@pytest.mark.parametrize(("make", "event"), INVALID)
def test_an_invalid_transition_is_rejected(make: Callable[[], Lifecycle], event: Event) -> None:
    """It raises InvalidTransition and changes nothing."""
    job = make()
    before = state_of(job)
    with pytest.raises(InvalidTransition, match=str(job.state)):
        job.handle(event, 1.0)
    assert before == state_of(job)


def test_time_may_pass_at_any_moment() -> None:
    """A timer that fires too early or too late is no error."""
    for job in (unstarted(), life(), finished()):
        assert [] == job.handle(TimePassed(), 1000.0)


def state_of(job: Lifecycle) -> dict[str, object]:
    """Return all attributes of a job."""
    return {name: getattr(job, name) for name in Lifecycle.__slots__}
