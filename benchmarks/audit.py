"""The CPU of the audit in the server, for a query and a start; compared with write(2) of the same lines.

In one process, without a network: only what the audit adds to a call.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from report import report

from worker.api.audit import ApiAudit
from worker.api.identity import Caller, ClientCertificate, Identity
from worker.api.methods import METHODS
from worker.api.roles import Role
from worker.core.audit.trail import AuditTrail
from worker.core.model.ending import Cause, Channel, End, Exited
from worker.core.model.job import JobRecord, JobSpec, new_job_id
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits
from worker.linux.audit.file import AuditFile
from worker.proto.worker import Limits, QueryRequest, StartRequest, StartResponse

TIMES, ROUNDS = 10, 2000
"""Short rounds, and the fastest one counts: other load on the machine only adds."""
CALLER = Caller(
    ClientCertificate(
        Identity("ci", "CN=worker CA", frozenset({Role.WRITER})), 1 << 150, "ab" * 32, 0, 1 << 40
    ),
    "192.0.2.7:40000",
)
ARGUMENTS = ["--environment", "production", "--token", "hunter2", "https://example.org/release/1.2.3"]
LIMITS = ResourceLimits(cpu=CpuLimit(quota=1.0), memory=MemoryLimit(max=256 << 20))
START = StartRequest(
    name="deploy",
    args=ARGUMENTS,
    env={"LANG": "C.UTF-8", "RELEASE": "1.2.3"},
    limits=Limits(cpu_quota_millicores=1000, memory_max=256 << 20),
)


def a_query(audit: ApiAudit) -> None:
    """Do what a Query causes."""
    call = audit.call(METHODS["/worker.v1.WorkerService/Query"], CALLER)
    call.allow(QueryRequest(job_id="b58476f2-9479-445b-898d-29eeaf905a47"))
    call.end()


def a_start(audit: ApiAudit) -> None:
    """Do what a Start causes, until the end of the job."""
    spec = JobSpec("deploy", ARGUMENTS, env=START.env, limits=LIMITS)
    job = JobRecord(new_job_id(), spec, "ci", "", 1.8e9, pid=7, started_at=1.8e9, limits=LIMITS)
    call = audit.call(METHODS["/worker.v1.WorkerService/Start"], CALLER)
    call.allow(START)
    audit.trail.job_started(job)
    call.end(reply=StartResponse(job_id=str(job.id)))
    end = End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 1000}, 1.8e9 + 1)
    audit.trail.job_ended(JobRecord(job.id, spec, "ci", "", 1.8e9, 7, 1.8e9, end, LIMITS))


def a_start_without_audit(_: ApiAudit) -> None:
    """Make the values that `a_start` makes; this is no cost of the audit."""
    spec = JobSpec("deploy", ARGUMENTS, env=START.env, limits=LIMITS)
    job = JobRecord(new_job_id(), spec, "ci", "", 1.8e9, pid=7, started_at=1.8e9, limits=LIMITS)
    StartResponse(job_id=str(job.id))
    end = End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 1000}, 1.8e9 + 1)
    JobRecord(job.id, spec, "ci", "", 1.8e9, 7, 1.8e9, end, LIMITS)


def microseconds(call: Callable[[], object]) -> float:
    """Return the CPU of a call in microseconds, user and system."""
    before = time.process_time()
    for _ in range(TIMES):
        call()
    return (time.process_time() - before) / TIMES * 1e6


@contextmanager
def audit_in(directory: Path, *, reads: bool, size: int = 0) -> Iterator[tuple[ApiAudit, Path]]:
    """Yield the audit of a server that writes to a file."""
    path = directory / f"audit-{reads}-{size}.log"
    log = AuditFile(path, size=size, keep=10)
    try:
        yield ApiAudit(AuditTrail(log, reads=reads)), path
    finally:
        log.close()


def lines_of(call: Callable[[ApiAudit], None], directory: Path, *, reads: bool) -> list[bytes]:
    """Return the lines that a call writes."""
    with audit_in(directory, reads=reads, size=1 << 40) as (audit, path):
        before = path.stat().st_size
        call(audit)
        return path.read_bytes()[before:].splitlines(keepends=True)


def writes(lines: list[bytes], file: int) -> Callable[[], None]:
    """Return a function that only writes these lines."""

    def write() -> None:
        for line in lines:
            os.write(file, line)

    return write


async def main() -> None:
    """Measure and report."""
    rows: list[dict[str, str | float]] = []
    subjects = (
        ("query, not recorded (the default)", a_query, None, False, 0),
        ("query, recorded (audit_reads)", a_query, None, True, 0),
        ("start, until the end of the job", a_start, a_start_without_audit, False, 0),
        ("the same, rotated at 20 MB", a_start, a_start_without_audit, False, 20 << 20),
    )
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        plain = os.open(directory / "plain", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for what, call, without, reads, size in subjects:
            lines = lines_of(call, directory, reads=reads)
            found, bases, limits = [], [], []
            with audit_in(directory, reads=reads, size=size) as (audit, _):
                for _ in range(ROUNDS):
                    limits.append(microseconds(writes(lines, plain)))
                    found.append(microseconds(partial(call, audit)))
                    bases.append(0.0 if without is None else microseconds(partial(without, audit)))
            rows.append(
                {
                    "call": what,
                    "records": str(len(lines)),
                    "bytes": str(sum(map(len, lines))),
                    "CPU us": min(found) - min(bases),
                    "write(2) us": min(limits),
                }
            )
        os.close(plain)
    report("audit", f"CPU of the audit, {TIMES} calls, the fastest of {ROUNDS} rounds", rows)


if __name__ == "__main__":
    asyncio.run(main())
