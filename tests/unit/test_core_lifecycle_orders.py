"""The life of a job in any order of events, against what has happened in plain words."""

import signal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.core.lifecycle import (
    Action,
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
    Ending,
    Exited,
    Lost,
    Signaled,
)
from worker.core.model.job import JobState, Leftovers

seconds = st.floats(0.0, 30.0)
numbers = st.sampled_from([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
endings = st.one_of(
    st.builds(Exited, st.integers(0, 255)),
    st.builds(Signaled, numbers),
    st.builds(Lost, st.just("nobody looked")),
)
oom_counts = st.integers(0, 2)


def state_of(job: Lifecycle) -> dict[str, object]:
    """Return all that a job knows."""
    return {name: getattr(job, name) for name in Lifecycle.__slots__}


class LifeMachine(RuleBasedStateMachine):
    """Any events at any time, against what has happened so far in plain words."""

    @initialize(
        timeout=st.none() | st.floats(0.1, 30.0), grace=seconds, leftovers=st.sampled_from(Leftovers)
    )
    def create(self, timeout: float | None, grace: float, leftovers: Leftovers) -> None:
        """Make a job that has not started."""
        self.job = Lifecycle(timeout=timeout, grace=grace, leftovers=leftovers)
        self.now = 0.0
        self.happened: list[Event] = []
        self.done: list[Action] = []

    @rule(after=seconds)
    def time_passes(self, after: float) -> None:
        """An alarm rings: only at the deadline something is due, and then it is one thing."""
        self.now += after
        deadline = self.job.deadline
        due = deadline is not None and deadline <= self.now
        assert due == (self.step(TimePassed(), legal=True) != [])

    @rule()
    def start(self) -> None:
        """The command is executed: once."""
        assert [] == self.step(Started(), legal=not self.has(Started))

    @rule(number=numbers, grace=seconds)
    def stop(self, number: int, grace: float) -> None:
        """Somebody stops it: that puts off nothing that was due."""
        asked = any(isinstance(action, SendSignal | Kill) for action in self.done)
        deadline = self.job.deadline
        actions = self.step(StopRequested(number, grace), legal=self.alive)
        if self.alive and asked and actions == [] and deadline is not None:
            assert self.job.deadline is not None
            assert self.job.deadline <= deadline

    @rule(ending=endings, oom_kills=oom_counts)
    def main_ends(self, ending: Ending, oom_kills: int) -> None:
        """The main process ends: once."""
        self.step(MainEnded(ending, oom_kills), legal=self.alive and not self.has(MainEnded))

    @rule(oom_kills=oom_counts)
    def group_empties(self, oom_kills: int) -> None:
        """Nobody is left, as far as that can be seen."""
        self.step(GroupEmptied(oom_kills), legal=self.alive)

    @rule(size=st.integers(0, 1 << 40))
    def output_drains(self, size: int) -> None:
        """The output is complete: that is the end, and the only one."""
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
    def drained_when_nobody_writes_any_more(self) -> None:
        """Drain comes once, and exactly when the main process has ended and nobody is left."""
        assert int(self.has(MainEnded) and self.has(GroupEmptied)) == self.done.count(Drain())

    @invariant()
    def finished_after_everything_else(self) -> None:
        """Finish comes once, last, and makes the job EXITED, or LOST if nobody knows its ending."""
        finished = [number for number, action in enumerate(self.done) if isinstance(action, Finish)]
        assert finished in ([], [len(self.done) - 1])
        assert bool(finished) == self.job.state.over == self.has(OutputDrained)
        if finished:
            assert isinstance(self.job.ending, Lost) == (self.job.state is JobState.LOST)

    @invariant()
    def asked_once_then_killed(self) -> None:
        """There is at most one signal, never after a kill, and neither once nobody is left."""
        kinds = [type(action) for action in self.done]
        order = {SendSignal: 0, Kill: 1, Drain: 2, Finish: 3}
        assert sorted(kinds, key=lambda kind: order[kind]) == kinds
        assert kinds.count(SendSignal) <= 1

    @invariant()
    def a_job_that_is_to_end_has_a_deadline(self) -> None:
        """Whoever was asked to end is killed later, and again; once nobody is left nothing is due."""
        if Drain() in self.done:
            assert self.job.deadline is None
        elif self.done:
            assert self.job.deadline is not None

    @invariant()
    def a_cause_has_its_reason(self) -> None:
        """No job was stopped that nobody stopped, nor timed out or OOM killed without that."""
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
        """Any job can be brought to its end, by killing it until nobody is left."""
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
            self.step(GroupEmptied(), legal=True)
        if self.alive:
            self.output_drains(0)
        assert self.job.state.over

    # --- what has happened

    @property
    def alive(self) -> bool:
        """Whether the job was started and is not over."""
        return self.has(Started) and not self.has(OutputDrained)

    @property
    def oom_kills(self) -> list[int]:
        """All counts that were told."""
        return [event.oom_kills for event in self.happened if isinstance(event, MainEnded | GroupEmptied)]

    def has(self, kind: type) -> bool:
        """Whether such an event was taken."""
        return any(isinstance(event, kind) for event in self.happened)

    def step(self, event: Event, *, legal: bool) -> list[Action]:
        """Take a step; a wrong one is refused and changes nothing."""
        before, cause = state_of(self.job), self.job.cause
        if not legal:
            with pytest.raises(WrongStep):
                self.job.handle(event, self.now)
            assert before == state_of(self.job)
            return []
        actions = self.job.handle(event, self.now)
        self.happened.append(event)
        self.done += actions
        assert cause in {Cause.NONE, self.job.cause}, "the first cause stays"
        return actions


TestAnyLife = LifeMachine.TestCase
