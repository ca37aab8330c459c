"""Which finished jobs expire, for any order of ends and with clocks that jump."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.core import JobId, Retention, new_job_id
from worker.core.engine.retention import (
    CLOCK_SETTLING,
    MAX_INTERVAL,
    MIN_AGE,
    MIN_INTERVAL,
    FinishedJobs,
    Moment,
)

NOON = 1_700_000_000.0
DAY = 86400.0
UNLIMITED = Retention(age=inf, jobs=inf, bytes=inf)
NONE_IN_USE: frozenset[JobId] = frozenset()

bounds = st.just(inf) | st.integers(0, 5)
ages = st.just(inf) | st.floats(0.0, 2 * DAY)


def finished(retention: Retention, *sizes: int) -> FinishedJobs:
    """Return jobs that all ended at NOON."""
    jobs = FinishedJobs(retention)
    for size in sizes:
        jobs.add(new_job_id(), NOON, size, Moment(NOON, 0.0))
    return jobs


def expired(jobs: FinishedJobs, moment: Moment) -> int:
    """Return the number of expired jobs."""
    return len(jobs.expired(moment, NONE_IN_USE)[0])


def test_bounds() -> None:
    """Each bound applies on its own, exact to the job, the byte and the second; inf is no bound."""
    later = Moment(NOON + 1000.0, 1000.0)
    assert 0 == expired(finished(UNLIMITED, *[1 << 60] * 1000), Moment(NOON + 1e9, 1e9))
    assert 2 == expired(finished(Retention(age=inf, jobs=3, bytes=inf), *[0] * 5), later)
    assert 0 == expired(finished(Retention(age=inf, jobs=3, bytes=inf), *[0] * 3), later)
    assert 1 == expired(finished(Retention(age=inf, jobs=inf, bytes=9), 1, 3, 3, 3), later)
    assert 2 == expired(finished(Retention(age=inf, jobs=inf, bytes=8), 1, 3, 3, 3), later)
    memory = FinishedJobs(Retention(age=inf, jobs=inf, bytes=inf, memory=10))
    for each in (6, 3, 4):
        memory.add(new_job_id(), NOON, 0, Moment(NOON, 0.0), each)
    assert 1 == expired(memory, later)
    assert 3 == expired(finished(Retention(age=1000.0, jobs=inf, bytes=inf), 0, 0, 0), later)
    assert 0 == expired(finished(Retention(age=1000.5, jobs=inf, bytes=inf), 0, 0, 0), later)


def test_minimum_age() -> None:
    """No bound expires a job before MIN_AGE, so that clients can read its end and output."""
    nothing = Retention(age=0.0, jobs=0, bytes=0)
    jobs = finished(nothing, 1 << 40)
    assert ([], MIN_AGE - 1.0) == jobs.expired(Moment(NOON + 1.0, 1.0), NONE_IN_USE)
    assert 1 == expired(jobs, Moment(NOON + MIN_AGE, MIN_AGE))


def test_the_wall_clock_jumps_forward() -> None:
    """A jump of ten years does not expire a job."""
    jobs = finished(Retention(age=DAY, jobs=inf, bytes=inf), 0, 0)
    assert 0 == expired(jobs, Moment(NOON + 3650 * DAY, 1.0))
    assert 2 == expired(jobs, Moment(NOON + 3650 * DAY, DAY))


def test_the_wall_clock_jumps_back() -> None:
    """The age of a job whose end is in the future by the wall clock is measured by the other clock."""
    jobs = finished(Retention(age=DAY, jobs=inf, bytes=inf), 0, 0)
    assert 0 == expired(jobs, Moment(0.0, DAY - 1.0))
    assert 2 == expired(jobs, Moment(0.0, DAY))


def test_a_server_that_starts_with_a_wrong_clock() -> None:
    """No job expires by age before CLOCK_SETTLING, nor afterwards if the clock was set meanwhile."""
    wrong = Moment(NOON + 3650 * DAY, 50.0)
    jobs = FinishedJobs(Retention(age=DAY, jobs=inf, bytes=inf))
    for number in range(3):
        jobs.add_recovered(new_job_id(), NOON - number, 0, wrong)
    assert 0 == expired(
        jobs, Moment(wrong.now + CLOCK_SETTLING - 1.0, wrong.boottime + CLOCK_SETTLING - 1.0)
    )
    assert 3 == expired(jobs, Moment(wrong.now + CLOCK_SETTLING, wrong.boottime + CLOCK_SETTLING))
    assert 0 == expired(jobs, Moment(NOON + CLOCK_SETTLING, wrong.boottime + CLOCK_SETTLING))


def test_recovered_jobs_expire_first() -> None:
    """Jobs that ended under a previous server are older than those that ended under this one."""
    jobs = FinishedJobs(Retention(age=inf, jobs=0, bytes=inf))
    order = [new_job_id() for _ in range(4)]
    moment = Moment(NOON, 0.0)
    jobs.add(order[3], NOON - 100.0, 0, moment)
    for number in (2, 1, 0):
        jobs.add_recovered(order[number], NOON - 100.0 + number, 0, moment)
    assert order == jobs.expired(Moment(NOON + MIN_AGE, MIN_AGE), NONE_IN_USE)[0]


@given(
    st.builds(Retention, age=ages, jobs=bounds, bytes=bounds),
    st.lists(st.integers(0, 3), max_size=8),
    st.floats(0.0, 2 * DAY),
)
def test_the_interval_until_the_next_check(retention: Retention, sizes: list[int], passed: float) -> None:
    """A check after the returned interval removes each job at most one second late."""
    jobs = finished(retention, *sizes)
    moment = Moment(NOON + passed, passed)
    first, interval = jobs.expired(moment, NONE_IN_USE)
    for job in first:
        jobs.discard(job)
    assert MIN_INTERVAL <= interval <= MAX_INTERVAL
    earlier = max(0.0, interval - MIN_INTERVAL - 0.001)
    assert 0 == expired(jobs, Moment(moment.now + earlier, moment.boottime + earlier))


class AnyOrder(RuleBasedStateMachine):
    """Jobs end, are used and are removed; the wall clock jumps."""

    @initialize(age=ages, jobs=bounds, size=bounds)
    def create(self, age: float, jobs: float, size: float) -> None:
        """Choose the bounds."""
        self.retention = Retention(age, jobs, size)
        self.jobs = FinishedJobs(self.retention)
        self.now, self.boottime = NOON, 0.0
        self.expected: dict[JobId, tuple[float, int]] = {}
        self.used: set[JobId] = set()

    @rule(size=st.integers(0, 3))
    def end(self, size: int) -> None:
        """A job ends."""
        job = new_job_id()
        self.expected[job] = self.boottime, size
        self.jobs.add(job, self.now, size, self.moment)

    @rule(seconds=st.floats(0.0, 2 * DAY))
    def time_passes(self, seconds: float) -> None:
        """Both clocks advance."""
        self.now += seconds
        self.boottime += seconds

    @rule(seconds=st.floats(-10 * DAY, 10 * DAY))
    def jump(self, seconds: float) -> None:
        """The wall clock is set."""
        self.now += seconds

    @rule(data=st.data())
    def use_or_release(self, data: st.DataObject) -> None:
        """A client begins or ends to use a job."""
        if self.expected:
            self.used ^= {data.draw(st.sampled_from(list(self.expected)))}

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """A client removes a job."""
        if self.expected:
            job = data.draw(st.sampled_from(list(self.expected)))
            del self.expected[job]
            self.jobs.discard(job)
            self.jobs.discard(job)

    @rule()
    def check(self) -> None:
        """Jobs expire oldest first, never while in use, and only if due by the clock that never jumps."""
        due, _ = self.jobs.expired(self.moment, self.used)
        unused = [job for job in self.expected if job not in self.used]
        assert unused[: len(due)] == due
        for job in due:
            ended, _ = self.expected[job]
            passed = self.boottime - ended
            assert passed >= MIN_AGE
            too_old = passed >= self.retention.age
            left = unused[unused.index(job) :]
            assert too_old or self.above(left)
            self.jobs.discard(job)
            del self.expected[job]

    def above(self, jobs: list[JobId]) -> bool:
        """Whether the number of jobs or the size of their output is above its bound."""
        size = sum(self.expected[job][1] for job in jobs)
        return len(jobs) > self.retention.jobs or size > self.retention.bytes

    @invariant()
    def all_jobs_are_kept(self) -> None:
        """No job is lost and none is kept after its removal."""
        if hasattr(self, "jobs"):
            assert len(self.expected) == len(self.jobs)

    def teardown(self) -> None:
        """With a correct clock and no job in use, the bounds hold at the end."""
        if not hasattr(self, "jobs"):
            return
        self.used.clear()
        self.boottime += 30 * DAY
        self.now = NOON + 100 * DAY + self.boottime
        self.check()
        assert not self.above(list(self.expected))
        assert self.retention.age == inf or not self.expected

    @property
    def moment(self) -> Moment:
        """The time now, by both clocks."""
        return Moment(self.now, self.boottime)


TestAnyOrder = AnyOrder.TestCase
