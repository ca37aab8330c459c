"""The contract suite of JobJournal."""

import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from ..model.client_id import ClientId
from ..model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Exited,
    Lost,
    Signaled,
)
from ..model.execution import Execution
from ..model.job import (
    JobRecord,
    JobSpec,
    Leftovers,
    PastRequest,
    new_job_id,
)
from ..model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
    ResourceUsage,
)
from ..model.terminal import WindowSize
from ..model.ulimits import Ulimit
from ..ports import JobJournal
from .contract import Contract

NOON = 1_700_000_000.25

EVERY_LIMIT = ResourceLimits(
    cpu=CpuLimit(quota=0.5, weight=250),
    memory=MemoryLimit(max=(1 << 63) - 1, high=1 << 40, swap_max=0),
    io=(
        IoLimit("/dev/vda", read_bytes_per_second=1, write_bytes_per_second=2),
        IoLimit("8:16", read_operations_per_second=3, write_operations_per_second=4),
    ),
    pids=100,
    cpuset="0-1,3",
)

REMOVED_LIMITS = ResourceLimits(
    io=(IoLimit("/dev/vda", read_bytes_per_second=1, unlimited=("write_bytes_per_second",)),),
    unlimited=("memory.max", "pids"),
)

EVERYTHING = JobSpec(
    "/bin/\N{SNOWMAN}",
    ["", " ", "--option", "two\nlines", "\t'\"\\", "\N{GRINNING FACE}", "x" * 100_000],
    env={"A": "", "B": "b=c", "\N{GREEK SMALL LETTER PI}": "3.14"},
    working_directory="/tmp/\N{LATIN SMALL LETTER U WITH DIAERESIS}",  # noqa: S108 - no file is created
    user="nobody",
    limits=EVERY_LIMIT,
    labels={"build": "42", "": "no name", "no value": ""},
    timeout=0.5,
    grace=0.0,
    leftovers=Leftovers.WAIT,
    linger=2.5,
    signal_all=True,
    stdin=True,
    split_output=True,
    output_max=10 << 20,
    ulimits=[Ulimit("nofile", 1024, None), Ulimit("core", 0, (1 << 64) - 2)],
    new_privileges=True,
    pipe_size=1 << 20,
    name="build_1.2-rc",
    execution=Execution("/usr/bin/ls", ("/usr/bin/nice", "-n5"), "/usr/bin", "/srv"),
)
"""No field has its default, except one that excludes others: see ON_A_TERMINAL."""

ON_A_TERMINAL = JobSpec("sh", stdin=True, terminal=WindowSize(24, 80))

USAGE = ResourceUsage(1, 2, 3, 4, 5, 6, 7, 8, 1 << 62)


class JournalContract(Contract):
    """A suite of checks; ``make`` creates an empty store of records for each.

    It yields a function that opens a journal on this store, as each server does. For a journal in memory
    the function returns the same object each time.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[Callable[[], JobJournal]]]) -> None:
        self._make = make

    async def check_a_new_journal_is_empty(self) -> None:
        """A journal has no records before the first ``put``."""
        async with self._make() as open_journal:
            journal = open_journal()
            assert [] == list(await journal.load())
            await journal.close()

    async def check_every_field_survives(self) -> None:
        """``load`` returns each record exactly as it was stored, for any job spec."""
        for spec in (JobSpec("ls"), EVERYTHING, ON_A_TERMINAL, JobSpec("ls", limits=REMOVED_LIMITS)):
            await self._check_survival(JobRecord(new_job_id(), spec, "\N{BULLET} owner", "id 1", NOON))

    async def check_what_was_decided_survives(self) -> None:
        """``load`` returns the issuer, the user and what was executed."""
        decided = JobRecord(
            new_job_id(),
            JobSpec("ls"),
            "owner",
            "",
            NOON,
            issuer="CN=\N{BULLET}",
            user="nobody",
            execution=EVERYTHING.execution,
        )
        await self._check_survival(decided)

    async def check_every_ending_survives(self) -> None:
        """``load`` returns the exact end of a job, for every ending and cause."""
        endings: list[Ending] = [
            Exited(0),
            Exited(255),
            Signaled(signal.SIGKILL),
            Signaled(64),  # SIGRTMAX of Linux
            Lost("the machine was \N{HIGH VOLTAGE SIGN} rebooted"),
        ]
        for ending in endings:
            for cause in Cause:
                sizes = {Channel.STDOUT: 0, Channel.STDERR: 1 << 40}
                record = _record(NOON)
                end = End(ending, cause, oom_kills=3, output=sizes, ended_at=NOON + 1)
                await self._check_survival(
                    replace(
                        record,
                        pid=4194304,
                        started_at=NOON,
                        end=end,
                        limits=EVERY_LIMIT,
                        usage=USAGE,
                        warnings=("a", "b"),
                    )
                )

    async def check_load_returns_the_oldest_first(self) -> None:
        """``load`` sorts the records by creation time, whatever the order of ``put``."""
        async with self._make() as open_journal:
            journal = open_journal()
            records = [_record(NOON + second) for second in range(5)]
            for number in (3, 0, 4, 1, 2):
                await journal.put(records[number])
            await journal.put(replace(records[1], owner="put again"))
            assert [record.id for record in records] == [record.id for record in await journal.load()]
            await journal.close()

    async def check_put_replaces(self) -> None:
        """A journal has one record for each job, the last one stored."""
        async with self._make() as open_journal:
            journal = open_journal()
            record = _record(NOON)
            await journal.put(record)
            changed = replace(record, pid=1, started_at=NOON)
            await journal.put(changed)
            assert [changed] == list(await journal.load())
            await journal.close()

    async def check_remove_is_idempotent(self) -> None:
        """``remove`` deletes one record and no other; removing an unknown job is no error."""
        async with self._make() as open_journal:
            journal = open_journal()
            removed, kept = _record(NOON), _record(NOON)
            await journal.put(removed)
            await journal.put(kept)
            for _ in range(2):
                await journal.remove(removed.id)
            await journal.remove(new_job_id())
            assert [kept] == list(await journal.load())
            await journal.close()

    async def check_records_survive_a_crash(self) -> None:
        """Changes are durable when ``put`` and ``remove`` return, even if the journal is never closed."""
        async with self._make() as open_journal:
            journal = open_journal()
            kept, removed = _record(NOON), _record(NOON + 1)
            await journal.put(kept)
            await journal.put(removed)
            await journal.remove(removed.id)
            successor = open_journal()
            assert [kept] == list(await successor.load())
            await successor.close()
            await journal.close()

    async def check_a_removal_stores_the_request(self) -> None:
        """The request of a removed job is stored until it is forgotten, also for the next server."""
        async with self._make() as open_journal:
            journal = open_journal()
            record = _record(NOON)
            owner, other = ClientId("\N{BULLET} owner", "CN=\N{BULLET}"), ClientId("owner", "")
            past = PastRequest(owner.name, "id 1", record.id, "f" * 64, NOON, owner.issuer)
            later = PastRequest(other.name, "id 1", new_job_id(), "0" * 64, NOON + 1, other.issuer)
            await journal.put(record)
            assert await journal.past_request(owner, "id 1") is None
            for _ in range(2):
                await journal.remove(record.id, past)
            await journal.remove(later.job, later)
            successor = open_journal()
            assert [] == list(await successor.load())
            assert past == await successor.past_request(owner, "id 1")
            assert await successor.past_request(owner, "id 2") is None
            await successor.forget_requests(NOON + 1)
            assert await successor.past_request(owner, "id 1") is None
            assert later == await successor.past_request(other, "id 1")
            await successor.close()
            await journal.close()

    async def check_requests_belong_to_name_and_issuer(self) -> None:
        """Equal names of two issuers have their own requests; one without issuer belongs to both."""
        async with self._make() as open_journal:
            journal = open_journal()
            first, second = (ClientId("owner", issuer) for issuer in ("CN=1", "CN=2"))
            requests = [
                PastRequest("owner", request_id, new_job_id(), "f" * 64, NOON, issuer)
                for request_id, issuer in (("a", "CN=1"), ("a", "CN=2"), ("b", "CN=1"), ("c", None))
            ]
            for request in requests:
                await journal.remove(request.job, request)
            for client, request_id, expected in (
                (first, "a", requests[0]),
                (second, "a", requests[1]),
                (first, "b", requests[2]),
                (second, "b", None),
                (ClientId("owner"), "b", None),
                (first, "c", requests[3]),
                (second, "c", requests[3]),
                (ClientId("owner"), "c", requests[3]),
                (ClientId("other", "CN=1"), "c", None),
            ):
                assert expected == await journal.past_request(client, request_id)
            await journal.close()

    async def _check_survival(self, record: JobRecord) -> None:
        async with self._make() as open_journal:
            journal = open_journal()
            await journal.put(record)
            assert [record] == list(await journal.load())
            await journal.close()
            successor = open_journal()
            assert [record] == list(await successor.load())
            await successor.close()


def _record(created_at: float) -> JobRecord:
    return JobRecord(new_job_id(), JobSpec("true"), "", "", created_at)
