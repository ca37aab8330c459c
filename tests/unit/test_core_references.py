"""What refers to a job: references and the order of jobs, compared with a model that examines all."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import (
    AmbiguousJob,
    Cause,
    ClientId,
    End,
    Exited,
    JobId,
    JobNotFound,
    JobRecord,
    JobSpec,
)
from worker.core.engine.job_entry import FINISHED, REMOVING, JobEntry, Launching
from worker.core.engine.job_order import JobOrder, position
from worker.core.engine.references import References
from worker.core.model.selection import Position

END = End(Exited(0), Cause.NONE, 0, {}, 1.0)
ALICE, BOB = ClientId("alice", "CA"), ClientId("bob", "CA")
OWNERS = [ALICE, ClientId("alice", "CB"), ClientId("alice"), BOB, ClientId("carol", "CA")]
NAMES = ["", "build", "abcd", "abcd1", "12345678"]
IDS = [
    UUID(f"{first}-1111-4111-8111-{last:012}")
    for first in ("abcd1234", "abcd1235", "12345678")
    for last in (1, 2, 100000000001)
]
REFERENCES = [
    *(name for name in NAMES if name),
    *(
        "@last",
        "@first",
        "",
        "abc",
        "abcd1234-1",
        "abcd12341",
        "ABCD1234-1111-4111-8111-",
        "other",
        "ab-cd",
        "xyzw",
    ),
    *(str(each)[:length] for each in (IDS[0], IDS[6]) for length in (4, 8, 9, 24, 25, 35, 36)),
]

changes = st.one_of(
    st.tuples(
        st.just("start"),
        st.sampled_from(IDS),
        st.sampled_from(OWNERS),
        st.sampled_from(NAMES),
        st.floats(0, 9),
    ),
    st.tuples(st.sampled_from(["end", "remove", "drop"]), st.integers(0, 8)),
)


def entry(job: UUID, owner: ClientId, name: str, created_at: float) -> JobEntry:
    """Return a job that is starting."""
    spec = JobSpec("true", name=name)
    return JobEntry(JobRecord(JobId(job), spec, owner[0], "", created_at, issuer=owner[1]), Launching())


class Jobs:
    """References, and a list of the same jobs."""

    def __init__(self) -> None:
        self.references = References()
        self.all: list[JobEntry] = []

    def change(self, kind: str, *facts: object) -> None:
        """Apply one change, if it is possible: as the registry does it."""
        if kind == "start":
            job, owner, name, created_at = facts
            taken = self.references.running(owner, name)  # type: ignore[misc]
            expected = [
                each
                for each in self.all
                if name
                and not each.is_finished
                and each.record.belongs_to(owner)
                and each.record.spec.name == name  # type: ignore[arg-type]
            ]
            assert (taken in expected) if expected else taken is None
            if taken is None and all(each.record.id != job for each in self.all):
                new = entry(job, owner, name, created_at)  # type: ignore[arg-type]
                self.all.append(new)
                self.references.add(new)
            return
        [number] = facts
        if not self.all:
            return
        found = self.all[number % len(self.all)]  # type: ignore[operator]
        if kind == "end" and not found.is_finished:
            found.record = replace(found.record, end=END)
            found.phase = FINISHED[False]
            self.references.ended(found)
        elif kind == "remove" and found.is_finished:
            found.phase = REMOVING[False]
        elif kind == "drop":
            self.references.discard(found)
            self.all.remove(found)

    def expected(self, text: str, client: ClientId, reads: Callable[[JobRecord], bool]) -> set[UUID]:
        """Return what a reference means, by the rules in proto/worker.proto: no job, one, or several."""
        if len(text) == 36:
            return {UUID(text)}
        there = [each for each in self.all if each.phase not in REMOVING.values() and reads(each.record)]
        own = [each for each in there if each.record.belongs_to(client)]
        if text.startswith("@"):
            return {max(own, key=position).record.id} if own and text == "@last" else set()
        named = [each for each in there if text and each.record.spec.name == text]
        if mine := [each for each in named if each in own]:
            return self.chosen(mine)
        if named:
            owners = {(each.record.owner, each.record.issuer) for each in named}
            return set().union(
                *(
                    self.chosen([e for e in named if (e.record.owner, e.record.issuer) == owner])
                    for owner in owners
                )
            )
        digits = text.replace("-", "")
        if len(digits) < 4:
            return set()
        return {each.record.id for each in there if str(each.record.id).startswith(text.lower())}

    @staticmethod
    def chosen(jobs: list[JobEntry]) -> set[UUID]:
        """Return the job that has not finished, otherwise the latest; of two that run, any (see OWNERS)."""
        running = [each for each in jobs if not each.is_finished]
        return {(running or [max(jobs, key=position)])[0].record.id}


@given(st.lists(changes, max_size=25), st.sampled_from(OWNERS), st.sets(st.sampled_from(OWNERS)))
def test_references_mean_what_the_rules_say(
    made: list[tuple[object, ...]], client: ClientId, hidden: set[ClientId]
) -> None:
    """Whatever jobs there are, and whichever a client may read, a text means the same as in the model."""
    jobs = Jobs()
    for change in made:
        jobs.change(*change)  # type: ignore[arg-type]

    def reads(record: JobRecord) -> bool:
        return (record.owner, record.issuer) not in hidden

    for text in REFERENCES:
        expected = jobs.expected(text, client, reads)
        error = ""
        try:
            found = {jobs.references.resolve(text, client, reads)}
        except JobNotFound as raised:
            assert f"Job {text} not found" == str(raised)  # noqa: PT017 - one of three outcomes
            found = set()
        except AmbiguousJob as raised:
            error = str(raised)
            found = expected
        if error:
            assert len(expected) > 1
            readable = [each.record for each in jobs.all if reads(each.record)]
            named = {owner for owner, _ in OWNERS if f"'{owner}'" in error}
            assert named <= {each.owner for each in readable}
            ids = {each.record.id for each in jobs.all if str(each.record.id) in error}
            assert ids <= {each.id for each in readable}
            assert named or ids
        assert expected == found, text


def test_nothing_is_left_of_jobs_that_are_gone() -> None:
    """A job that was discarded leaves no entry in any index."""
    references = References()
    jobs = [entry(UUID(int=number), OWNERS[number % 5], NAMES[number % 4], 1.0) for number in range(20)]
    for job in jobs:
        references.add(job)
    for job in jobs[::-1]:
        references.discard(job)
    assert not any(vars(references).values())


@pytest.mark.parametrize("number", [2, 4, 5, 100])
def test_an_ambiguous_reference_names_some(number: int) -> None:
    """The error names up to four owners or ids, with the issuer where the names are the same."""
    references = References()
    for index in range(number):
        references.add(entry(UUID(int=index), ClientId("bob", f"CA {index}"), "build", float(index)))
    with pytest.raises(AmbiguousJob) as raised:
        references.resolve("build", ALICE, None)
    others = " and others" if number > 4 else ""
    owners = ", ".join(f"'bob' (CA {index})" for index in range(min(number, 4)))
    assert f"jobs of several owners are named build: {owners}{others}; use an id" == str(raised.value)
    with pytest.raises(AmbiguousJob) as raised:
        references.resolve("00000000", ALICE, None)
    ids = ", ".join(str(UUID(int=index)) for index in range(min(number, 4)))
    assert f"several job ids begin with 00000000: {ids}{others}; use more digits" == str(raised.value)


def test_only_some_jobs_are_examined() -> None:
    """With thousands of jobs a name, an id and the beginning of an id cost no look at the others."""
    references, examined = References(), count()
    for number in range(10_000):
        name = f"job-{number}" if number % 2 else "same"
        references.add(entry(UUID(int=number << 100), BOB, name, float(number)))

    def reads(record: JobRecord) -> bool:
        next(examined)
        return record.owner == "bob"

    last = UUID(int=9_998 << 100)
    assert last == references.resolve("same", BOB, reads)
    assert last == references.resolve("same", ALICE, reads)
    assert last == references.resolve(str(last)[:8], ALICE, reads)
    assert UUID(int=9_999 << 100) == references.resolve("@last", BOB, reads)
    with pytest.raises(JobNotFound):
        references.resolve("@last", ALICE, reads)
    assert next(examined) < 10


places = st.tuples(st.floats(0, 3), st.sampled_from(IDS)).map(
    lambda each: Position(each[0], JobId(each[1]))
)


@given(
    st.lists(st.tuples(places, st.booleans()), max_size=20),
    st.none() | places,
    st.integers(1, 5),
    st.booleans(),
)
def test_the_order_of_jobs(
    made: list[tuple[Position, bool]],
    place: Position | None,
    most: int,
    newest_first: bool,  # noqa: FBT001
) -> None:
    """Jobs are sorted by time and id, and a place needs no job to be there."""
    order, jobs = JobOrder(), dict[Position, JobEntry]()
    for each, stays in made:
        if each not in jobs:
            jobs[each] = entry(each.job, OWNERS[0], "", each.created_at)
            order.add(jobs[each])
        if not stays:
            for _ in range(2):
                order.discard(jobs[each])
            del jobs[each]
    assert bool(jobs) == bool(order)
    wanted = sorted(jobs, reverse=newest_first)
    if place is not None:
        wanted = [each for each in wanted if (each < place if newest_first else each > place)]
    assert wanted[:most] == [position(each) for each in order.after(place, most, newest_first=newest_first)]
    assert (max(jobs) if jobs else None) == (position(order.newest) if order.newest else None)
