"""The CPU that bounds, policy and audit cost the server for a query and a start, each of them and together.

The same call is served with and without them in alternating rounds, in one process and without a network
(served.py). Other load on the machine only adds to the CPU of a call, so the fastest one counts.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from betterproto2 import Message
from report import report
from served import Served, without_bounds

from worker.api.identity import Caller, ClientCertificate, Identity
from worker.api.roles import Role
from worker.cli.policy_file import parse_policy
from worker.core.audit.trail import AuditTrail
from worker.core.model.job import JobSpec
from worker.core.policy.rules import Policy
from worker.linux.audit.file import AuditFile
from worker.linux.spawner.host_lookup import HostLookup
from worker.proto.worker import Limits, QueryRequest, StartRequest

CALLS, ROUNDS = 10, 60

PARTS = ("bounds", "policy", "audit")
VARIANTS = ((), *((part,) for part in PARTS), PARTS)

CALLER = Caller(
    ClientCertificate(
        Identity("ci-7", "CN=worker CA", frozenset({Role.WRITER})), 1 << 150, "ab" * 32, 0, 1 << 40
    ),
    "192.0.2.7:40000",
)
START = StartRequest(
    name="true",
    args=["--environment", "production", "--token", "hunter2", "https://example.org/release/1.2.3"],
    env={"CI_JOB": "7", "MODE": "debug"},
    limits=Limits(cpu_quota_millicores=1000, memory_max=256 << 20),
)

RULE = """
[[rule]]
name = "rule {number}"
clients = ["team-{number}-*", "ci-*"]
calls = ["start", "read", "output", "stop"]
commands = [{{ path = "/usr/bin/make", args = ["-C", "/srv/{number}/*", "..."] }}, "/usr/bin/{command}"]
env = ["CI_*", "MODE=debug"]
users = ["nobody"]
limits.maximum = {{ memory = "8G" }}
{wrap}
"""
QUOTA = """
[[quota]]
name = "jobs of CI"
clients = ["ci-*"]
running_jobs = 100
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A call, and the settings that it is measured with; ``jobs`` end because of it."""

    name: str
    method: str = "Start"
    request: Callable[[str], Message] = lambda _: START
    jobs: int = 1
    rules: int = 3
    wrap: str = ""
    reads: bool = False
    reloads: bool = False


def _query(job: str) -> QueryRequest:
    return QueryRequest(job_id=job)


SUBJECTS = (
    Subject("query", "Query", _query, jobs=0),
    Subject("query, recorded (audit_reads)", "Query", _query, jobs=0, reads=True),
    Subject("start, until the end of the job"),
    Subject("the same, 30 rules of the client", rules=30),
    Subject("the same, with a wrapper", wrap='wrap = ["/usr/bin/env", "--"]'),
    Subject("the same, after a reload of the policy", reloads=True),
)


def policy(subject: Subject) -> Policy:
    """Return a policy of whose rules only the last one allows the start."""
    rules = [RULE.format(number=n, command=f"tool-{n}", wrap="") for n in range(subject.rules - 1)]
    last = RULE.format(number="n", command="true", wrap=subject.wrap)
    return parse_policy("".join((*rules, last, QUOTA)).encode())


@asynccontextmanager
async def served(subject: Subject, parts: tuple[str, ...], directory: Path) -> AsyncIterator["Variant"]:
    """Yield a server that has only these parts."""
    log = AuditFile(directory / "-".join(parts), size=20 << 20) if "audit" in parts else None
    with nullcontext() if "bounds" in parts else without_bounds():
        server = Served(
            CALLER,
            HostLookup("nobody" if os.geteuid() == 0 else None),
            policy(subject) if "policy" in parts else None,
            AuditTrail(log, reads=subject.reads),
        )
    job = await server.worker.start(JobSpec("true"), owner=CALLER.name, issuer=CALLER.identity.issuer)
    await server.serve(b"", 1)
    try:
        yield Variant(subject, parts, server, subject.request(str(job)))
    finally:
        await server.close()
        if log is not None:
            log.close()


@dataclass
class Variant:
    """A call to a server that has some of the parts; ``cpu`` is that of the fastest one in microseconds."""

    subject: Subject
    parts: tuple[str, ...]
    server: Served
    request: Message
    cpu: float = float("inf")

    async def measure(self) -> None:
        """Serve the call some times."""
        server, subject = self.server, self.subject
        policies = [
            policy(subject) for _ in range(CALLS if subject.reloads and "policy" in self.parts else 0)
        ]
        calls = [server.call(subject.method, self.request) for _ in range(CALLS)]
        with nullcontext() if "bounds" in self.parts else without_bounds():
            for call in calls:
                if policies:
                    server.in_force.policy = policies.pop()
                before = time.process_time()
                await server.serve(call, subject.jobs)
                self.cpu = min(self.cpu, (time.process_time() - before) * 1e6)
        server.check_replies(CALLS)
        if subject.jobs:
            await server.remove_jobs()


async def measured(subject: Subject, directory: Path) -> dict[str, str | float]:
    """Return the row of a call."""
    async with AsyncExitStack() as stack:
        variants = [
            await stack.enter_async_context(served(subject, parts, directory)) for parts in VARIANTS
        ]
        for _ in range(ROUNDS):
            for variant in variants:
                await variant.measure()
    bare, *parts, together = (each.cpu for each in variants)
    costs = dict(zip(PARTS, (cpu - bare for cpu in parts), strict=True))
    return {"call, CPU us": subject.name, "without them": bare, **costs, "together": together - bare}


async def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as name:
        rows = [await measured(subject, Path(name)) for subject in SUBJECTS]
    report("multi_user", f"CPU of bounds, policy and audit, the fastest of {CALLS * ROUNDS} calls", rows)


if __name__ == "__main__":
    asyncio.run(main())
