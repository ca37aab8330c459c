"""A policy that is replaced while the server runs: calls that wait, the next ones, and those that go on."""

import asyncio
from pathlib import Path
from threading import Event

from worker.client.job import Job
from worker.core.model.job import JobSpec
from worker.core.policy.calls import StartFacts
from worker.core.policy.in_force import PolicyInForce
from worker.core.policy.rules import Policy
from worker.linux.spawner.host_lookup import HostLookup

from ..support.governed import ALICE, LONG, refusal
from ..support.policies import read
from ..support.served import Served, serving
from ..support.waiting import awaited


async def test_a_decision_is_by_the_policy_in_force(people: Path) -> None:
    """A policy that is replaced while a command is looked up decides about that call too."""
    in_force = PolicyInForce(read(ALICE))
    lookup = _Slow()
    async with (
        serving(people, policy=in_force, lookup=lookup) as served,
        served.client("alice") as alice,
    ):
        starting = asyncio.ensure_future(alice.start(LONG))
        await asyncio.to_thread(lookup.begun.wait)
        in_force.policy = read(ALICE.replace('clients = ["alice"]', 'clients = ["bob"]'))
        lookup.go_on.set()
        assert "PermissionDenied" == (await refusal(starting))[0]
        assert [] == await served.worker.list()


class _Slow(HostLookup):
    """A lookup that waits to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = Event(), Event()

    def facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        self.begun.set()
        self.go_on.wait()
        return super().facts(spec, policy)


async def test_a_new_policy_applies_to_the_next_call(people: Path) -> None:
    """The policy can be replaced while clients are connected; trouble is reported to admins only."""
    in_force = PolicyInForce(read(ALICE))
    async with serving(people, policy=in_force) as served, served.client("bob") as bob:
        assert "PermissionDenied" == (await refusal(bob.list()))[0]
        in_force.policy = read('[[rule]]\nclients = ["bob"]\ncalls = ["read", "admin"]\n')
        in_force.trouble = "it is broken"
        assert [] == await bob.list()
        assert "it is broken" == (await bob.who_am_i()).policy_trouble
        in_force.policy = read('[[rule]]\nclients = ["bob"]\ncalls = ["read"]\n')
        assert "" == (await bob.who_am_i()).policy_trouble
        assert await bob.health()


async def test_a_new_policy_ends_the_calls_that_it_does_not_allow(people: Path) -> None:
    """A stream, a wait and an Attach end with the reason; those of other clients go on."""
    both = ALICE.replace('clients = ["alice"]', 'clients = ["alice", "bob"]\njobs = "all"')
    in_force = PolicyInForce(read(both))
    async with (
        serving(people, policy=in_force) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await alice.start(LONG))
        waits = [asyncio.create_task(Job(client, job).wait()) for client in (alice, bob)]
        streams = [Job(client, job).stream() for client in (alice, bob)]
        ends = [asyncio.create_task(anext(stream, None)) for stream in streams]
        await awaited(lambda: started(served, 4))
        in_force.policy = read(ALICE)
        served.server.policy_replaced()
        for call in (waits[1], ends[1]):
            assert "NotFound" == (await refusal(call))[0]
        assert not waits[0].done()
        assert not ends[0].done()
        await Job(alice, job).stop(grace=0)
        assert job == str((await waits[0]).record.id)
        assert await ends[0] is None


async def started(served: Served, calls: int) -> bool:
    """Whether so many calls that go on for long are served."""
    return calls == len(served.server._calls.standing._calls)
