"""What a policy costs the server for each call: CPU of the decision, measured in a process of its own.

The decision is measured by itself: beside a whole call, whose CPU varies more than it costs, it cannot be
seen. A client is one of a hundred, so that its rights are looked up as in a server with many clients.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from report import report

from worker.api.authorization import Authorization
from worker.api.identity import Identity
from worker.api.roles import Role
from worker.cli.policy_file import parse_policy
from worker.core.model.job import JobSpec
from worker.core.policy.calls import CallGroup
from worker.core.policy.in_force import PolicyInForce
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker
from worker.linux.spawner.host_lookup import HostLookup
from worker.proto.worker import QueryRequest, StartRequest

CLIENTS = 100
TIMES = 5000
ROUNDS = 5

RULE = """
[[rule]]
name = "rule {number}"
clients = ["team-{number}-*", "ci-*"]
calls = ["start", "read", "output", "stop"]
commands = [{{ path = "/usr/bin/make", args = ["-C", "/srv/{number}/*", "..."] }}, "/usr/bin/tool-{number}"]
env = ["CI_*", "MODE=debug"]
users = ["nobody"]
limits.maximum = {{ memory = "8G" }}
"""
LAST = RULE.replace('"/usr/bin/tool-{number}"', '"/usr/bin/true"')


async def _cpu(call: Callable[[int], Awaitable[object]], times: int) -> float:
    """Return the CPU of one call in microseconds, the least of some rounds."""
    found = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for number in range(times):
            await call(number)
        found.append((time.process_time() - before) / times)
    return 1e6 * min(found)


async def _measure(rules: int) -> list[dict[str, object]]:
    worker = Worker(spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
    text = "".join(RULE.format(number=number) for number in range(rules - 1)) + LAST.format(number=rules)
    policies = [parse_policy(text.encode()) for _ in range(2)]
    in_force = PolicyInForce(policies[0])
    governed = Authorization(worker, in_force, HostLookup("nobody" if os.geteuid() == 0 else None))
    clients = [Identity(f"ci-{number}", "CN=ca", frozenset({Role.WRITER})) for number in range(CLIENTS)]
    job = await worker.start(JobSpec("true"), owner="ci-0", issuer="CN=ca")
    query = QueryRequest(job_id=str(job))
    start = StartRequest(name="true", args=["a", "b"], env={"CI_JOB": "7", "MODE": "debug"})

    async def check_query(_: int) -> object:
        return await governed.check(clients[0], CallGroup.READ, query)

    async def check_start(number: int) -> object:
        return await governed.check(clients[number % CLIENTS], CallGroup.START, start)

    async def check_start_anew(number: int) -> object:
        in_force.policy = policies[number % 2]  # a new policy begins without anything
        return await check_start(number)

    rows = {
        "query": (check_query, TIMES),
        "start, file and user looked up a moment ago": (check_start, TIMES),
        "start after a reload": (check_start_anew, TIMES // 10),
    }
    found = [
        {"rules of the client": str(rules), "call": name, "CPU us": await _cpu(call, times)}
        for name, (call, times) in rows.items()
    ]
    await worker.close()
    return found


def main() -> None:
    """Measure and report."""
    rows = [row for rules in (3, 30) for row in asyncio.run(_measure(rules))]
    report("policy", f"CPU of the decision, least of {ROUNDS} rounds", rows)


if __name__ == "__main__":
    main()
