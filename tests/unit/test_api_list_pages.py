"""Pages of a list: what they have, that they join to the whole list, and how large they get."""

import asyncio
from base64 import urlsafe_b64encode
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from struct import pack

import grpc
import pytest
from grpclib.exceptions import GRPCError
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api.bounds import Bounds
from worker.api.handlers import Handlers, caller
from worker.api.identity import ANONYMOUS_CALLER, Identity
from worker.api.list_pages import LARGEST_ENTRY, LARGEST_PAGE, list_entry
from worker.api.shutdown import Shutdown
from worker.api.translate import job_status
from worker.core import (
    Cause,
    Channel,
    End,
    Exited,
    Extent,
    IoLimit,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    JobStatus,
    Lost,
    MemoryJournal,
    ResourceLimits,
    ResourceUsage,
    Signaled,
    Worker,
    new_job_id,
)
from worker.core.audit.record import Event
from worker.core.audit.trail import AuditTrail
from worker.core.model.execution import Execution
from worker.core.testing import FakeLimiter, FakeMachine, MemoryAuditLog, MemoryOutputStore
from worker.proto.worker import Label, ListRequest, ListResponse

from ..support.examples import examples
from ..support.served import make_spawner, make_worker, serving, unary

LIST = "/worker.v1.WorkerService/List"
SLEEP, TRUE = JobSpec("sleep", ["1000"]), JobSpec("true")
END = End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 7}, 1_700_000_000.0)


async def page(worker: Worker, request: ListRequest, identity: Identity | None = None) -> ListResponse:
    """Return a page, as a client of this identity gets it."""
    client = replace(ANONYMOUS_CALLER.certificate, identity=identity or Identity(""))
    token = caller.set(replace(ANONYMOUS_CALLER, certificate=client))
    try:
        parts = [part async for part in Handlers(worker, Shutdown()).list(request)]
    finally:
        caller.reset(token)
    data = b"".join(parts)
    assert len(data) <= LARGEST_PAGE
    return ListResponse.parse(data)


async def pages(worker: Worker, request: ListRequest, identity: Identity | None = None) -> list[list[str]]:
    """Return the ids of all pages."""
    found = []
    while True:
        reply = await page(worker, request, identity)
        found.append([each.job_id for each in reply.jobs])
        if not reply.next_page_token:
            return found
        request.page_token = reply.next_page_token


def finished(number: int = 0, spec: JobSpec = TRUE, end: End = END) -> JobRecord:
    """Return the record of a job that has ended."""
    return JobRecord(new_job_id(), spec, "alice", "", 1_000_000.0 + number, 7, 1_000_000.5 + number, end)


async def made(records: list[JobRecord]) -> Worker:
    """Return a Worker with these jobs of an earlier one."""
    journal = MemoryJournal()
    for each in records:
        await journal.put(each)
    return Worker(
        spawner=make_spawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore(), journal=journal
    )


# --- joined pages

steps = st.one_of(
    st.just("page"),
    st.tuples(st.just("start"), st.sampled_from([SLEEP, TRUE]), st.sampled_from([-2.0, 0.0, 1.0])),
    st.tuples(st.just("remove"), st.integers(0, 20)),
    st.just("restart"),
)


class Reader:
    """A client that reads a list page by page, while others start and remove jobs."""

    def __init__(self, size: int, *, newest_first: bool) -> None:
        self.machine = FakeMachine()
        self.worker = self.machine.worker()
        self.request = ListRequest(page_size=size, newest_first=newest_first)
        self.jobs: list[JobId] = []
        self.seen: list[str] = []
        self.complete = False

    async def read(self) -> None:
        """Read the next page."""
        reply = await page(self.worker, self.request)
        assert len(reply.jobs) <= self.request.page_size
        self.seen.extend(each.job_id for each in reply.jobs)
        self.request.page_token = reply.next_page_token
        self.complete = not reply.next_page_token

    async def start(self, spec: JobSpec, seconds: float = 0.0) -> None:
        """Start a job, this long after the one before."""
        self.machine.clock.set(self.machine.clock.now() + seconds)
        self.jobs.append(await self.worker.start(spec))
        await self.machine.clock.advance(0)

    async def remove(self, index: int) -> None:
        """Remove one of the jobs if it has finished."""
        job = self.jobs[index % len(self.jobs)]
        if (await self.worker.query(job)).state.over:
            await self.worker.remove(job)
            self.jobs.remove(job)

    async def apply(self, change: object) -> None:
        """Do one of the steps."""
        match change:
            case "page":
                await self.read()
            case "restart":
                self.worker = self.machine.worker()
            case ("start", JobSpec() as spec, float(seconds)):
                await self.start(spec, seconds)
            case ("remove", int(index)) if self.jobs:
                await self.remove(index)


@settings(max_examples=examples(100))
@given(st.integers(0, 12), st.integers(1, 4), st.booleans(), st.lists(steps, max_size=20))
def test_pages_join_to_the_list(
    number: int,
    size: int,
    newest_first: bool,  # noqa: FBT001
    changes: list[object],
) -> None:
    """Jobs that were there all the time are on one page each, in order, and no job is on two."""

    async def run() -> None:
        reader = Reader(size, newest_first=newest_first)
        for each in range(number):
            await reader.start(TRUE if each % 2 else SLEEP)
        first = list(reader.jobs)
        for change in changes:
            if not reader.complete:
                await reader.apply(change)
        while not reader.complete:
            await reader.read()
        assert len(reader.seen) == len(set(reader.seen))
        expected = [str(each) for each in first if each in reader.jobs]
        assert (expected[::-1] if newest_first else expected) == [
            each for each in reader.seen if each in expected
        ]

    asyncio.run(run())


async def test_the_last_page_has_no_token() -> None:
    """Also if the number of jobs is a multiple of the size of a page, and if there are none."""
    worker = await made([finished(number) for number in range(4)])
    assert [2, 2] == [len(each) for each in await pages(worker, ListRequest(page_size=2))]
    assert [[]] == await pages(worker, ListRequest(page_size=2, running=True))
    assert [4] == [len(each) for each in await pages(worker, ListRequest())]


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "AAAA",
        "\N{SNOWMAN}",
        "====",
        urlsafe_b64encode(pack(">d16s", float("nan"), b"")).decode(),
        "A" * 1000,
    ],
)
async def test_a_text_that_is_no_token(token: str) -> None:
    """It is rejected, not taken for the first page."""
    with pytest.raises(Exception, match="page_token: is not one that this server has sent"):
        await page(make_worker(), ListRequest(page_token=token))


# --- what is selected


async def test_filters() -> None:
    """Each filter alone, and all of them together."""
    ends = {
        "exit 0": End(Exited(0), Cause.NONE, 0, {}, 2.0),
        "exit 1": End(Exited(1), Cause.NONE, 0, {}, 2.0),
        "killed": End(Signaled(9), Cause.OOM_KILLED, 0, {}, 2.0),
        "stopped with 0": End(Exited(0), Cause.STOPPED, 0, {}, 2.0),
        "lost": End(Lost("power"), Cause.NONE, 0, {}, 2.0),
    }
    labels = [{"app": "x"}, {"app": "y"}, {}, {"app": "x", "tier": "db"}, {"tier": "db"}]
    owners = [("alice", "CA"), ("alice", "other CA"), ("bob", "CA"), ("alice", None), ("alice", "CA")]
    records = {
        text: replace(
            finished(number, JobSpec("true", labels=labels[number]), end),
            owner=owners[number][0],
            issuer=owners[number][1],
        )
        for number, (text, end) in enumerate(ends.items())
    }
    worker = await made(list(records.values()))
    running = str(await worker.start(SLEEP, owner="bob", issuer="CA"))
    names = {str(each.id): text for text, each in records.items()} | {running: "running"}
    alice = Identity("alice", "CA")

    async def found(**filters: object) -> list[str]:
        [ids] = await pages(worker, ListRequest(**filters), alice)  # type: ignore[arg-type]
        return [names[each] for each in ids]

    assert list(names.values()) == await found()
    assert list(names.values())[::-1] == await found(newest_first=True)
    assert ["running"] == await found(running=True)
    assert list(ends) == await found(finished=True)
    assert ["exit 1", "killed", "lost"] == await found(failed=True)
    assert ["exit 0", "stopped with 0", "lost"] == await found(own=True)
    assert ["exit 0", "stopped with 0"] == await found(labels={"app": "x"})
    assert ["exit 1", "killed", "lost", "running"] == await found(without_labels=[Label("app", "x")])
    none_of = [Label("app", "x"), Label("app", "y")]
    assert ["killed", "lost", "running"] == await found(without_labels=none_of)
    together = {"labels": {"tier": "db"}, "without_labels": none_of, "failed": True, "own": True}
    assert ["lost"] == await found(finished=True, newest_first=True, **together)
    for contradiction in ({"finished": True}, {"failed": True}):
        with pytest.raises(Exception, match="running: no job is both running and finished"):
            await found(running=True, **contradiction)


# --- sizes

HUGE = "\N{SNOWMAN}" * 50_000
texts = st.sampled_from(["", "a", "\N{SNOWMAN}", "x" * 1023, "\N{SNOWMAN}" * 342, HUGE])
lists = st.lists(texts, max_size=3) | st.just(["x"] * 2000)


@settings(max_examples=examples(30))
@given(st.data())
def test_every_job_fits_a_page(data: st.DataObject) -> None:
    """Whatever a job carries, its entry is bounded, and a client can read it."""
    labels = data.draw(
        st.dictionaries(texts, texts) | st.just({str(each): "x" * 30 for each in range(4000)})
    )
    spec = JobSpec(
        data.draw(texts.filter(bool)),
        data.draw(lists),
        working_directory="/" + data.draw(texts),
        user=data.draw(st.none() | texts),
        labels=labels,
        name="n" * 63,
    )
    ending = data.draw(st.sampled_from([Exited(0), Lost(data.draw(texts))]))
    limits = ResourceLimits(io=tuple(IoLimit(text or "d", 1) for text in data.draw(lists)))
    record = replace(
        finished(0, spec, replace(END, ending=ending)),
        owner=data.draw(texts),
        warnings=tuple(data.draw(lists)),
        limits=limits,
        execution=Execution(data.draw(texts.filter(bool)), tuple(data.draw(lists))),
    )
    extents = {Channel.OUTPUT: Extent(0, 7)}
    status = JobStatus(
        record, JobState.EXITED, ending, Cause.NONE, ResourceUsage(), extents, data.draw(texts)
    )
    entry = list_entry(status)
    assert len(entry) <= 2 * LARGEST_ENTRY
    [message] = ListResponse.parse(entry).jobs
    shown = job_status(message)
    assert (record.id, record.end) == (shown.record.id, replace(shown.record.end or END, ending=ending))
    assert all(
        spec.labels[name].startswith(value.removesuffix("..."))
        for name, value in shown.record.spec.labels.items()
    )


async def test_what_is_shortened() -> None:
    """The argument that exceeds a kilobyte keeps its first kilobyte; labels of 64 KiB are complete."""
    cases = {
        ("a",) * 1024: ["a"] * 1024,
        ("a",) * 1025: ["a"] * 1025,
        ("a",) * 1026: [*["a"] * 1025, "..."],
        ("-c", "b" * 5000, "c"): ["-c", "b" * 1024 + "..."],
        ("a" * 1000, "b" * 100): ["a" * 1000, "b" * 100],
        ("a" * 1000, "b" * 100, "c"): ["a" * 1000, "b" * 100, "..."],
    }
    for args, expected in cases.items():
        worker = make_worker()
        labels = {str(number): "v" * 1000 for number in range(64)}
        job = await worker.start(JobSpec("echo", args, labels=labels))
        [listed] = (await page(worker, ListRequest())).jobs
        assert expected == list(listed.args)
        assert labels == listed.labels
        assert args == (await worker.query(job)).record.spec.args


def stock_pages(target: str, pki: Path, request: ListRequest) -> list[ListResponse]:
    """Return all pages as a client of grpcio gets them, which accepts replies of 4 MiB."""
    files = [(pki / name).read_bytes() for name in ("ca.crt", "reader.key", "reader.crt")]
    found = []
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(*files)) as channel:
        call = channel.unary_unary(LIST)
        while True:
            data = call(bytes(request), timeout=60)
            assert len(data) <= LARGEST_PAGE
            found.append(ListResponse.parse(data))
            if not found[-1].next_page_token:
                return found
            request.page_token = found[-1].next_page_token


async def test_a_stock_client_accepts_every_page(pki: Path) -> None:
    """Five jobs with a label of a megabyte, and jobs of 6 MB in all; our client gets all of them."""
    labels = {"commit": "x" * 40, "branch": "y" * 2000, "pipeline": "z" * 1000}
    worker = await made([finished(number, JobSpec("true", labels=labels)) for number in range(2000)])
    async with (
        serving(pki, worker, bounds=Bounds(max_label_size=2 << 20)) as served,
        served.client("writer") as client,
    ):
        jobs = [await client.start(JobSpec("true", labels={"big": "b" * 1_000_000})) for _ in range(5)]
        target = f"localhost:{served.port}"
        found = await asyncio.to_thread(stock_pages, target, pki, ListRequest())
        assert len(found) >= 5
        ids = [each.job_id for reply in found for each in reply.jobs]
        assert 2005 == len(ids) == len(set(ids))
        newest = (await page(worker, ListRequest(newest_first=True, page_size=5))).jobs
        assert [str(each) for each in jobs[::-1]] == [each.job_id for each in newest]
        assert ids == [str(each.record.id) for each in await client.list()]
        async with served.channel("reader") as channel:
            with pytest.raises(GRPCError, match="page_token: is not one that this server has sent"):
                await unary(channel, LIST, ListRequest(page_token="x"), ListResponse)


async def test_who_looks_at_a_few_jobs_gets_a_short_page(pki: Path) -> None:
    """The pages of our client grow, so that the first one comes at once, however many jobs there are."""
    log = MemoryAuditLog()
    records = [finished(number) for number in range(600)]
    audit = AuditTrail(log, reads=True)
    async with (
        serving(pki, await made(records), audit=audit) as served,
        served.client("reader") as client,
    ):
        async with aclosing(client.jobs(newest_first=True)) as jobs:
            seen = [(await anext(jobs)).record.id for _ in range(100)]
        assert seen == [each.id for each in records[:-101:-1]]
        assert 1 == list_calls(log)
        assert 600 == len(await client.list())
        assert 1 + 3 == list_calls(log)


def list_calls(log: MemoryAuditLog) -> int:
    """Return how many calls of List have ended."""
    return sum((each["event"], each.get("method")) == (Event.OUTCOME, "List") for each in log.records)
