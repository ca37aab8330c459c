"""Invariants of the life cycle for any order of events."""

import signal
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.core import Cause, Channel, Ending, Exited, JobState, Leftovers, Lost, Signaled
from worker.core.lifecycle import (
    Action,
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

from ..support.examples import examples
from ..support.lifecycles import state_of

seconds = st.floats(0.0, 30.0)
numbers = st.sampled_from([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
endings = st.one_of(
    st.builds(Exited, st.integers(0, 255)),
    st.builds(Signaled, numbers),
    st.builds(Lost, st.just("not observed")),
)
oom_counts = st.integers(0, 2)
ignored = st.sampled_from([frozenset(), frozenset({signal.SIGTERM}), frozenset({signal.SIGINT})])


class AnyOrder(RuleBasedStateMachine):
    """Any event at any time, with the list of events so far as the model."""

    @initialize(
        timeout=st.none() | st.floats(0.1, 30.0),
        grace=seconds,
        leftovers=st.sampled_from(Leftovers),
        linger=st.sampled_from([0.0, 0.1, 1.0, 20.0]),
        signal_all=st.booleans(),
    )
    def create(
        self, timeout: float | None, grace: float, leftovers: Leftovers, linger: float, *, signal_all: bool
    ) -> None:
        """Create a job that has not started."""
        self.timeout = timeout
        self.make = partial(
            Lifecycle, grace=grace, leftovers=leftovers, linger=linger, signal_all=signal_all
        )
        self.job = self.make(timeout=timeout)
        self.now = self.started_at = 0.0
        self.happened: list[Event] = []
        self.done: list[Action] = []
        self.recorded: Termination | None = None
        self.frozen = False

    @rule(after=seconds, ignored=ignored)
    def time_passes(self, after: float, ignored: frozenset[int]) -> None:
        """A timer fires: only from the deadline on it causes an action."""
        self.now += after
        deadline = self.job.deadline
        due = deadline is not None and deadline <= self.now
        assert due == (self.step(TimePassed(ignored), legal=True) != [])

    @rule()
    def start(self) -> None:
        """The command is executed, once."""
        if not self.has(Started):
            self.started_at = self.now
        assert [] == self.step(Started(), legal=not self.has(Started))

    @rule(number=numbers, grace=seconds, signal_all=st.booleans(), ignored=ignored)
    def stop(self, number: int, grace: float, *, signal_all: bool, ignored: frozenset[int]) -> None:
        """A stop does not delay a deadline; SIGKILL is due at the end of the grace period or before."""
        terminating = self.job.termination is not None
        deadline = self.job.deadline
        actions = self.step(StopRequested(number, grace, signal_all, ignored), legal=self.alive)
        if not self.alive or Drain() in self.done or Kill() in self.done:
            return
        assert self.job.termination is not None
        assert self.job.deadline is not None
        assert self.job.termination.kill_at <= self.now + grace
        assert self.job.deadline <= self.job.termination.kill_at
        if terminating and actions == [] and deadline is not None:
            assert self.job.deadline <= deadline

    @rule()
    def pause(self) -> None:
        """A job can be paused before any of its processes was signalled to end."""
        self.step(PauseRequested(), legal=self.job.pausable)

    @rule()
    def resume(self) -> None:
        """A resume is possible until the end, also if the job is not paused."""
        self.step(ResumeRequested(), legal=self.alive)

    @precondition(lambda self: self.has(Started) and not self.has(AllEnded) and not self.has(OutputDrained))
    @rule()
    def supervisor_dies(self) -> None:
        """Its successor continues with what is recorded, and with what the kernel knows."""
        left = None if self.timeout is None else max(0.0, self.started_at + self.timeout - self.now)
        self.job = self.make(timeout=left)
        self.job.handle(Started(), self.now)
        self.perform(self.job.handle(Adopted(self.recorded, paused=self.frozen), self.now))
        [main] = [event for event in self.happened if isinstance(event, MainEnded)] or [None]
        if main is not None:
            self.perform(self.job.handle(main, self.now))
            self.recorded = self.job.termination

    @precondition(lambda self: self.alive and not self.has(AllEnded))
    @rule(number=numbers, grace=seconds)
    def supervisor_dies_before_it_signals(self, number: int, grace: float) -> None:
        """What is recorded and was not sent is not sent later either."""
        self.happened.append(StopRequested(number, grace))
        self.job.handle(self.happened[-1], self.now)
        self.recorded = self.job.termination
        self.supervisor_dies()

    @rule(ending=endings, oom_kills=oom_counts)
    def main_ends(self, ending: Ending, oom_kills: int) -> None:
        """The main process ends, once."""
        self.step(MainEnded(ending, oom_kills), legal=self.alive and not self.has(MainEnded))

    @rule(oom_kills=oom_counts)
    def all_end(self, oom_kills: int) -> None:
        """All processes have ended, as far as the supervisor can see."""
        self.step(AllEnded(oom_kills), legal=self.alive)

    @rule(size=st.integers(0, 1 << 40))
    def output_drains(self, size: int) -> None:
        """The output is drained: the job finishes, once."""
        output = {Channel.OUTPUT: size}
        legal = self.alive and Drain() in self.done
        actions = self.step(OutputDrained(output, self.now), legal=legal)
        if legal:
            [finish] = actions
            assert isinstance(finish, Finish)
            assert output == finish.end.output
            assert self.now == finish.end.ended_at
            assert max(self.oom_kills) == finish.end.oom_kills
            assert self.job.cause is finish.end.cause

    @invariant()
    def drained_when_no_process_writes(self) -> None:
        """Drain occurs once, exactly when the main process and all others have ended."""
        assert int(self.has(MainEnded) and self.has(AllEnded)) == self.done.count(Drain())

    @invariant()
    def finished_after_everything_else(self) -> None:
        """Finish is the last action and occurs once; the job is EXITED, or LOST if its ending is lost."""
        finished = [number for number, action in enumerate(self.done) if isinstance(action, Finish)]
        assert finished in ([], [len(self.done) - 1])
        assert bool(finished) == self.job.state.over == self.has(OutputDrained)
        if finished:
            assert isinstance(self.job.ending, Lost) == (self.job.state is JobState.LOST)

    @invariant()
    def signalled_once_then_killed(self) -> None:
        """No process gets two signals, or one after a kill or after all processes have ended."""
        kinds = [type(action) for action in self.done if not isinstance(action, Freeze | Thaw)]
        order = {SendSignal: 0, Kill: 1, Drain: 2, Finish: 3}
        assert sorted(kinds, key=lambda kind: order[kind]) == kinds
        sent = [action.whom for action in self.done if isinstance(action, SendSignal)]
        assert sent in ([], [Whom.ALL], [Whom.OTHERS], [Whom.MAIN], [Whom.MAIN, Whom.OTHERS])

    @invariant()
    def main_is_signalled_while_it_runs(self) -> None:
        """A main process that has ended by itself is not signalled."""
        if self.has(MainEnded) and self.recorded is not None and not self.recorded.main_signaled:
            assert Whom.MAIN not in [each.whom for each in self.done if isinstance(each, SendSignal)]

    @invariant()
    def a_stopping_job_has_a_deadline(self) -> None:
        """After a signal SIGKILL is due, and repeated; after the end of all processes nothing is due."""
        if Drain() in self.done:
            assert self.job.deadline is None
        elif self.job.termination is not None:
            assert self.job.deadline is not None

    @invariant()
    def paused_is_frozen(self) -> None:
        """The job is paused exactly while it is frozen, and never after a signal to end."""
        if Drain() in self.done:
            return
        assert self.frozen == self.job.paused
        assert not (self.frozen and self.job.termination is not None and self.job.termination.begun)

    @invariant()
    def a_cause_has_its_reason(self) -> None:
        """Each cause requires its event: a stop, a timeout, or an OOM kill."""
        [ending] = [event.ending for event in self.happened if isinstance(event, MainEnded)] or [None]
        assert ending == self.job.ending
        match self.job.cause:
            case Cause.STOPPED:
                assert self.has(StopRequested)
            case Cause.TIMED_OUT:
                assert self.has(TimePassed)
            case Cause.OOM_KILLED:
                assert Signaled(signal.SIGKILL) == ending
                assert max(self.oom_kills) > 0

    def teardown(self) -> None:
        """Any job can be killed and then finishes."""
        if not hasattr(self, "job"):
            return
        if not self.has(Started):
            self.step(Started(), legal=True)
        if self.alive and Drain() not in self.done:
            self.step(StopRequested(signal.SIGKILL, 0.0), legal=True)
            assert Kill() in self.done
            for _ in range(3):
                assert self.job.deadline is not None
                self.now = self.job.deadline
                assert [Kill()] == self.step(TimePassed(), legal=True)
            if not self.has(MainEnded):
                self.step(MainEnded(Signaled(signal.SIGKILL)), legal=True)
            self.step(AllEnded(), legal=True)
        if self.alive:
            self.output_drains(0)
        assert self.job.state.over

    # --- the events so far

    @property
    def alive(self) -> bool:
        """Whether the job has started and not finished."""
        return self.has(Started) and not self.has(OutputDrained)

    @property
    def oom_kills(self) -> list[int]:
        """All reported counts."""
        return [event.oom_kills for event in self.happened if isinstance(event, MainEnded | AllEnded)]

    def has(self, kind: type) -> bool:
        """Whether such an event has occurred."""
        return any(isinstance(event, kind) for event in self.happened)

    def step(self, event: Event, *, legal: bool) -> list[Action]:
        """Process an event; an impossible one must raise InvalidTransition and change nothing."""
        before, cause = state_of(self.job), self.job.cause
        if not legal:
            with pytest.raises(InvalidTransition):
                self.job.handle(event, self.now)
            assert before == state_of(self.job)
            return []
        actions = self.job.handle(event, self.now)
        self.happened.append(event)
        self.recorded = self.job.termination
        self.perform(actions)
        assert cause in {Cause.NONE, self.job.cause}, "the cause has changed"
        return actions

    def perform(self, actions: list[Action]) -> None:
        """Carry out what follows from an event."""
        for action in actions:
            assert not isinstance(action, Thaw) or self.frozen, "nothing to thaw"
            self.frozen = (self.frozen and not isinstance(action, Thaw)) or isinstance(action, Freeze)
        self.done += actions


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(300), stateful_step_count=30)
