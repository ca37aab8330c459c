"""Which finished jobs have to go, in any order of ends and with clocks that jump."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.core.engine.retention import (
    FRESH,
    LONGEST_REST,
    SETTLING,
    SHORTEST_REST,
    FinishedJobs,
    Moment,
    Retention,
)
from worker.core.model.job import JobId, new_job_id

NOON = 1_700_000_000.0
DAY = 86400.0
UNBOUND = Retention(age=inf, jobs=inf, bytes=inf)
NOBODY: frozenset[JobId] = frozenset()

bounds = st.just(inf) | st.integers(0, 5)
ages = st.just(inf) | st.floats(0.0, 2 * DAY)


def finished(retention: Retention, *sizes: int) -> FinishedJobs:
    """Return jobs that all ended at noon."""
    jobs = FinishedJobs(retention)
    for size in sizes:
        jobs.add(new_job_id(), NOON, size, Moment(NOON, 0.0))
    return jobs


def going(jobs: FinishedJobs, moment: Moment) -> int:
    """Return how many have to go."""
    return len(jobs.look(moment, NOBODY)[0])


def test_bounds() -> None:
    """Each bound holds by itself, to the job, the byte and the second; inf is no bound."""
    later = Moment(NOON + 1000.0, 1000.0)
    assert 0 == going(finished(UNBOUND, *[1 << 60] * 1000), Moment(NOON + 1e9, 1e9))
    assert 2 == going(finished(Retention(age=inf, jobs=3, bytes=inf), *[0] * 5), later)
    assert 0 == going(finished(Retention(age=inf, jobs=3, bytes=inf), *[0] * 3), later)
    assert 1 == going(finished(Retention(age=inf, jobs=inf, bytes=9), 1, 3, 3, 3), later)
    assert 2 == going(finished(Retention(age=inf, jobs=inf, bytes=8), 1, 3, 3, 3), later)
    assert 3 == going(finished(Retention(age=1000.0, jobs=inf, bytes=inf), 0, 0, 0), later)
    assert 0 == going(finished(Retention(age=1000.5, jobs=inf, bytes=inf), 0, 0, 0), later)


def test_what_has_just_ended_stays() -> None:
    """Whatever the bounds, there is time to learn of an end and to read the output."""
    nothing = Retention(age=0.0, jobs=0, bytes=0)
    jobs = finished(nothing, 1 << 40)
    assert ([], FRESH - 1.0) == jobs.look(Moment(NOON + 1.0, 1.0), NOBODY)
    assert 1 == going(jobs, Moment(NOON + FRESH, FRESH))


def test_the_wall_clock_leaps_forward() -> None:
    """Ten years in a moment make nobody older."""
    jobs = finished(Retention(age=DAY, jobs=inf, bytes=inf), 0, 0)
    assert 0 == going(jobs, Moment(NOON + 3650 * DAY, 1.0))
    assert 2 == going(jobs, Moment(NOON + 3650 * DAY, DAY))


def test_the_wall_clock_falls_back() -> None:
    """A job that ended in what is now the future goes by the other clock."""
    jobs = finished(Retention(age=DAY, jobs=inf, bytes=inf), 0, 0)
    assert 0 == going(jobs, Moment(0.0, DAY - 1.0))
    assert 2 == going(jobs, Moment(0.0, DAY))


def test_a_server_that_starts_with_a_wrong_clock() -> None:
    """It takes nothing for too old before the clock can have been set, and nothing if it was."""
    wrong = Moment(NOON + 3650 * DAY, 50.0)
    jobs = FinishedJobs(Retention(age=DAY, jobs=inf, bytes=inf))
    for number in range(3):
        jobs.add_earlier(new_job_id(), NOON - number, 0, wrong)
    assert 0 == going(jobs, Moment(wrong.now + SETTLING - 1.0, wrong.boottime + SETTLING - 1.0))
    assert 3 == going(jobs, Moment(wrong.now + SETTLING, wrong.boottime + SETTLING))
    assert 0 == going(jobs, Moment(NOON + SETTLING, wrong.boottime + SETTLING))


def test_earlier_jobs_go_first() -> None:
    """What ended under an earlier server is older than what ended under this one."""
    jobs = FinishedJobs(Retention(age=inf, jobs=0, bytes=inf))
    order = [new_job_id() for _ in range(4)]
    moment = Moment(NOON, 0.0)
    jobs.add(order[3], NOON - 100.0, 0, moment)
    for number in (2, 1, 0):
        jobs.add_earlier(order[number], NOON - 100.0 + number, 0, moment)
    assert order == jobs.look(Moment(NOON + FRESH, FRESH), NOBODY)[0]


@given(
    st.builds(Retention, age=ages, jobs=bounds, bytes=bounds),
    st.lists(st.integers(0, 3), max_size=8),
    st.floats(0.0, 2 * DAY),
)
def test_the_rest_misses_nothing(retention: Retention, sizes: list[int], passed: float) -> None:
    """Whoever looks again when told to removes nothing later than at the next second."""
    jobs = finished(retention, *sizes)
    moment = Moment(NOON + passed, passed)
    first, rest = jobs.look(moment, NOBODY)
    for job in first:
        jobs.discard(job)
    assert SHORTEST_REST <= rest <= LONGEST_REST
    earlier = max(0.0, rest - SHORTEST_REST - 0.001)
    assert 0 == going(jobs, Moment(moment.now + earlier, moment.boottime + earlier))


class FinishedMachine(RuleBasedStateMachine):
    """Jobs that end, are used, are removed, by two clocks of which one jumps."""

    @initialize(age=ages, jobs=bounds, size=bounds)
    def create(self, age: float, jobs: float, size: float) -> None:
        """Choose what is kept."""
        self.retention = Retention(age, jobs, size)
        self.jobs = FinishedJobs(self.retention)
        self.now, self.boottime = NOON, 0.0
        self.held: dict[JobId, tuple[float, int]] = {}
        self.used: set[JobId] = set()

    @rule(size=st.integers(0, 3))
    def end(self, size: int) -> None:
        """A job ends."""
        job = new_job_id()
        self.held[job] = self.boottime, size
        self.jobs.add(job, self.now, size, self.moment)

    @rule(seconds=st.floats(0.0, 2 * DAY))
    def time_passes(self, seconds: float) -> None:
        """Both clocks go on."""
        self.now += seconds
        self.boottime += seconds

    @rule(seconds=st.floats(-10 * DAY, 10 * DAY))
    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.now += seconds

    @rule(data=st.data())
    def use_or_leave(self, data: st.DataObject) -> None:
        """A client reads, or has read."""
        if self.held:
            self.used ^= {data.draw(st.sampled_from(list(self.held)))}

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Somebody removes a job by hand."""
        if self.held:
            job = data.draw(st.sampled_from(list(self.held)))
            del self.held[job]
            self.jobs.discard(job)
            self.jobs.discard(job)

    @rule()
    def look(self) -> None:
        """What goes was due by the clock that never jumps; the oldest go first, those in use never."""
        due, _ = self.jobs.look(self.moment, self.used)
        unused = [job for job in self.held if job not in self.used]
        assert unused[: len(due)] == due
        for job in due:
            ended, _ = self.held[job]
            passed = self.boottime - ended
            assert passed >= FRESH
            too_old = passed >= self.retention.age
            left = unused[unused.index(job) :]
            assert too_old or self.above(left)
            self.jobs.discard(job)
            del self.held[job]

    def above(self, jobs: list[JobId]) -> bool:
        """Whether there are too many, or too much of their output."""
        size = sum(self.held[job][1] for job in jobs)
        return len(jobs) > self.retention.jobs or size > self.retention.bytes

    @invariant()
    def all_are_there(self) -> None:
        """None is lost, none stays."""
        if hasattr(self, "jobs"):
            assert len(self.held) == len(self.jobs)

    def teardown(self) -> None:
        """With the clock right and nobody there, the bounds are kept in the end."""
        if not hasattr(self, "jobs"):
            return
        self.used.clear()
        self.boottime += 30 * DAY
        self.now = NOON + 100 * DAY + self.boottime
        self.look()
        assert not self.above(list(self.held))
        assert self.retention.age == inf or not self.held

    @property
    def moment(self) -> Moment:
        """Now, by both clocks."""
        return Moment(self.now, self.boottime)


TestAnyOrder = FinishedMachine.TestCase
