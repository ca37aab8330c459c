"""The life of a job: each rule by example; test_core_lifecycle_orders.py has them in any order."""

import signal
from collections.abc import Callable

import pytest

from worker.core.lifecycle import (
    KILL_AGAIN,
    LEFTOVER_GRACE,
    Drain,
    Event,
    Finish,
    GroupEmptied,
    Kill,
    Lifecycle,
    MainEnded,
    OutputDrained,
    SendSignal,
    Started,
    StopRequested,
    TimePassed,
    WrongStep,
)
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Exited,
    Lost,
    Signaled,
)
from worker.core.model.job import JobState, Leftovers

GRACE = 10.0
TERM = signal.SIGTERM
DRAINED = OutputDrained({Channel.OUTPUT: 7}, at=99.0)


def life(*events: Event, timeout: float | None = None, leftovers: Leftovers = Leftovers.KILL) -> Lifecycle:
    """Return a job that has been started at 0 and to which these events have happened."""
    job = Lifecycle(timeout=timeout, grace=GRACE, leftovers=leftovers)
    for event in (Started(), *events):
        job.handle(event, 0.0)
    return job


def end_of(job: Lifecycle) -> End:
    """Return what is told once the output is drained."""
    [finish] = job.handle(DRAINED, 0.0)
    assert isinstance(finish, Finish)
    return finish.end


# --- the plain course


def test_a_job_that_ends_by_itself_is_drained_then_finished() -> None:
    """What may be left is asked to end; the end is told once nobody is and the output is complete."""
    job = life()
    assert JobState.RUNNING is job.state
    assert job.deadline is None
    assert [SendSignal(TERM)] == job.handle(MainEnded(Exited(3)), 1.0)
    assert [Drain()] == job.handle(GroupEmptied(), 1.0)
    assert JobState.STOPPING is job.state
    assert End(Exited(3), Cause.NONE, 0, {Channel.OUTPUT: 7}, 99.0) == end_of(job)
    assert JobState.EXITED is job.state


def test_a_group_may_be_empty_before_its_main_process_is_reaped() -> None:
    """The order of the two does not matter; a zombie is no leftover that would be signalled."""
    job = life()
    assert [] == job.handle(GroupEmptied(), 0.0)
    assert JobState.RUNNING is job.state
    assert [Drain()] == job.handle(MainEnded(Exited(0)), 0.0)
    assert JobState.STOPPING is job.state


def test_an_empty_group_may_be_noticed_twice() -> None:
    """The second notice changes nothing."""
    job = life(GroupEmptied())
    assert [] == job.handle(GroupEmptied(), 0.0)
    job.handle(MainEnded(Exited(0)), 0.0)
    assert [] == job.handle(GroupEmptied(), 0.0)


def test_a_lost_ending_makes_the_job_lost() -> None:
    """What nobody knows is no exit code."""
    job = life(GroupEmptied(), MainEnded(Lost("nobody looked")))
    assert Lost("nobody looked") == end_of(job).ending
    assert JobState.LOST is job.state


def test_the_ending_is_known_while_others_are_left() -> None:
    """As soon as the main process has ended its exit code can be shown."""
    job = life(MainEnded(Exited(5)))
    assert Exited(5) == job.ending
    assert JobState.STOPPING is job.state


# --- stop and escalation


def test_stop_signals_then_kills_after_the_grace() -> None:
    """The signal that was asked for comes at once, SIGKILL at the deadline and not before."""
    job = life()
    assert [SendSignal(signal.SIGINT)] == job.handle(StopRequested(signal.SIGINT, 3.0), 100.0)
    assert JobState.STOPPING is job.state
    assert 103.0 == job.deadline
    assert [] == job.handle(TimePassed(), 102.9)
    assert [Kill()] == job.handle(TimePassed(), 103.0)


def test_kill_is_repeated_until_nothing_is_left() -> None:
    """A fork may slip through a SIGKILL; the next one gets it."""
    job = life(StopRequested(signal.SIGKILL, GRACE))
    for number in range(1, 5):
        at = number * KILL_AGAIN
        assert at == job.deadline
        assert [Kill()] == job.handle(TimePassed(), at)
    job.handle(MainEnded(Signaled(signal.SIGKILL)), 5.0)
    assert [Kill()] == job.handle(TimePassed(), 6.0)
    assert [Drain()] == job.handle(GroupEmptied(), 6.0)
    assert job.deadline is None
    assert [] == job.handle(TimePassed(), 1000.0)


@pytest.mark.parametrize("stop", [StopRequested(signal.SIGKILL, GRACE), StopRequested(TERM, 0.0)])
def test_stop_without_grace_kills_at_once(stop: StopRequested) -> None:
    """SIGKILL, or any signal without time, ends every process by the surest means."""
    job = life()
    assert [Kill()] == job.handle(stop, 0.0)


def test_a_second_stop_only_joins() -> None:
    """It sends no second signal, and does not put the SIGKILL off."""
    job = life(StopRequested(TERM, 5.0))
    assert [] == job.handle(StopRequested(signal.SIGINT, 60.0), 1.0)
    assert 5.0 == job.deadline


def test_a_second_stop_can_shorten_the_wait() -> None:
    """Its grace counts from its own moment, if that comes sooner."""
    job = life(StopRequested(TERM, 5.0))
    assert [] == job.handle(StopRequested(TERM, 1.0), 2.0)
    assert 3.0 == job.deadline


def test_a_second_stop_by_sigkill_kills_at_once() -> None:
    """Who asks for SIGKILL does not wait for the first one's grace."""
    job = life(StopRequested(TERM, 60.0))
    assert [Kill()] == job.handle(StopRequested(signal.SIGKILL, 60.0), 1.0)


def test_a_stop_after_the_kill_waits_for_the_next_kill() -> None:
    """Killing goes on at its own pace, whoever asks for more of it."""
    job = life(StopRequested(signal.SIGKILL, 0.0))
    assert [] == job.handle(StopRequested(signal.SIGKILL, 0.0), 0.5)
    assert KILL_AGAIN == job.deadline


def test_a_stop_while_draining_changes_nothing() -> None:
    """No process is left to be signalled, and the cause stays what it was."""
    job = life(GroupEmptied(), MainEnded(Exited(0)))
    assert [] == job.handle(StopRequested(TERM, GRACE), 0.0)
    assert Cause.NONE is end_of(job).cause


@pytest.mark.parametrize("ending", [Signaled(TERM), Signaled(signal.SIGKILL), Exited(0)])
def test_a_stopped_job_says_so_however_it_ended(ending: Ending) -> None:
    """A program that catches SIGTERM and exits with 0 was stopped all the same."""
    job = life(StopRequested(TERM, GRACE), MainEnded(ending), GroupEmptied())
    assert Cause.STOPPED is end_of(job).cause


# --- timeout


def test_timeout_counts_from_the_start() -> None:
    """When it is over the job is asked to end, and killed after its own grace."""
    job = Lifecycle(timeout=2.0, grace=GRACE, leftovers=Leftovers.KILL)
    job.handle(Started(), 50.0)
    assert 52.0 == job.deadline
    assert [] == job.handle(TimePassed(), 51.0)
    assert [SendSignal(TERM)] == job.handle(TimePassed(), 52.5)
    assert 52.5 + GRACE == job.deadline
    assert [Kill()] == job.handle(TimePassed(), 52.5 + GRACE)
    job.handle(MainEnded(Signaled(signal.SIGKILL)), 63.0)
    job.handle(GroupEmptied(), 63.0)
    assert Cause.TIMED_OUT is end_of(job).cause


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        (StopRequested(TERM, 100.0), TimePassed(), Cause.STOPPED),
        (TimePassed(), StopRequested(TERM, 0.0), Cause.TIMED_OUT),
    ],
)
def test_the_first_cause_stays(first: Event, second: Event, cause: Cause) -> None:
    """What comes on top of the reason for the end is not the reason."""
    job = life(timeout=2.0)
    job.handle(first, 2.0)
    job.handle(second, 2.0)
    assert cause is job.cause


def test_timeout_goes_on_for_what_is_waited_for() -> None:
    """A job that lasts as long as its leftovers is bounded too, but its end was not the timeout's doing."""
    job = life(MainEnded(Exited(0)), timeout=2.0, leftovers=Leftovers.WAIT)
    assert 2.0 == job.deadline
    assert [SendSignal(TERM)] == job.handle(TimePassed(), 2.0)
    assert Cause.NONE is job.cause


# --- leftovers


def test_leftovers_are_asked_to_end_then_killed() -> None:
    """What outlives the main process gets SIGTERM, and SIGKILL two seconds later."""
    job = life()
    assert [SendSignal(TERM)] == job.handle(MainEnded(Exited(0)), 10.0)
    assert 10.0 + LEFTOVER_GRACE == job.deadline
    assert [Kill()] == job.handle(TimePassed(), 10.0 + LEFTOVER_GRACE)
    job.handle(GroupEmptied(), 13.0)
    assert Cause.NONE is end_of(job).cause


def test_leftovers_may_be_waited_for() -> None:
    """With ``wait`` nothing is signalled, until somebody stops them."""
    job = life(leftovers=Leftovers.WAIT)
    assert [] == job.handle(MainEnded(Exited(0)), 0.0)
    assert job.deadline is None
    assert JobState.STOPPING is job.state
    assert [SendSignal(TERM)] == job.handle(StopRequested(TERM, GRACE), 5.0)
    job.handle(GroupEmptied(), 6.0)
    assert End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 7}, 99.0) == end_of(job)


def test_leftovers_of_a_stopped_job_have_the_same_deadline() -> None:
    """They were asked to end together with the main process; its end gives them no new time."""
    job = life(StopRequested(TERM, 5.0))
    assert [] == job.handle(MainEnded(Signaled(TERM)), 4.0)
    assert 5.0 == job.deadline


# --- out of memory


def test_a_sigkill_by_the_oom_killer_is_told() -> None:
    """OOM_KILLED: the main process died of a SIGKILL that we did not send, and oom_kill rose."""
    job = life(MainEnded(Signaled(signal.SIGKILL), oom_kills=1), GroupEmptied(oom_kills=3))
    end = end_of(job)
    assert Cause.OOM_KILLED is end.cause
    assert 3 == end.oom_kills


@pytest.mark.parametrize(
    ("before", "main"),
    [
        ([], MainEnded(Signaled(signal.SIGKILL), oom_kills=0)),  # somebody else's kill -9
        ([], MainEnded(Exited(1), oom_kills=1)),  # a child was killed, the main process coped
        ([], MainEnded(Signaled(signal.SIGSEGV), oom_kills=1)),
        ([StopRequested(TERM, GRACE)], MainEnded(Signaled(signal.SIGKILL), oom_kills=1)),
        ([StopRequested(signal.SIGKILL, 0.0)], MainEnded(Signaled(signal.SIGKILL), oom_kills=1)),
    ],
)
def test_any_other_end_is_not_the_oom_killer_s(before: list[Event], main: MainEnded) -> None:
    """The count is told; the cause is not claimed."""
    end = end_of(life(*before, main, GroupEmptied()))
    assert Cause.OOM_KILLED is not end.cause
    assert main.oom_kills == end.oom_kills


def test_an_oom_kill_noticed_with_the_empty_group_counts_too() -> None:
    """The group may be seen empty before the main process is reaped."""
    job = life(GroupEmptied(oom_kills=1), MainEnded(Signaled(signal.SIGKILL)))
    assert Cause.OOM_KILLED is end_of(job).cause


# --- wrong steps

EVERY_EVENT: list[Event] = [
    Started(),
    StopRequested(TERM, GRACE),
    MainEnded(Exited(0)),
    GroupEmptied(),
    DRAINED,
]


def unstarted() -> Lifecycle:
    """Return a job that does not run yet."""
    return Lifecycle(timeout=1.0, grace=GRACE, leftovers=Leftovers.KILL)


def over() -> Lifecycle:
    """Return a job to which nothing more can happen."""
    return life(MainEnded(Exited(0)), GroupEmptied(), DRAINED)


WRONG: list[tuple[Callable[[], Lifecycle], Event]] = [
    *((unstarted, event) for event in EVERY_EVENT[1:]),
    *((over, event) for event in EVERY_EVENT),
    (life, Started()),
    (life, DRAINED),
    (lambda: life(MainEnded(Exited(0))), MainEnded(Exited(1))),
    (lambda: life(MainEnded(Exited(0))), DRAINED),
    (lambda: life(GroupEmptied()), DRAINED),
]


@pytest.mark.parametrize(("make", "event"), WRONG)
def test_a_wrong_step_is_refused(make: Callable[[], Lifecycle], event: Event) -> None:
    """The driver's fault is told to it, and changes nothing."""
    job = make()
    before = state_of(job)
    with pytest.raises(WrongStep, match=str(job.state)):
        job.handle(event, 1.0)
    assert before == state_of(job)


def test_time_may_pass_at_any_moment() -> None:
    """An alarm that rings too early, or too late, is no fault."""
    for job in (unstarted(), life(), over()):
        assert [] == job.handle(TimePassed(), 1000.0)


def state_of(job: Lifecycle) -> dict[str, object]:
    """Return all that a job knows."""
    return {name: getattr(job, name) for name in Lifecycle.__slots__}
