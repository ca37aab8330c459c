"""Lookups on the host that hang: who waits, for how long, and which answer comes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event, current_thread

import pytest

from worker.api.bounds import Bounds
from worker.api.lookup_threads import LookupThreads
from worker.client.client import Client
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.errors import HostUnresponsive
from worker.core.look_up import look_up, runner
from worker.core.model.client_id import ClientId
from worker.core.model.job import JobSpec
from worker.core.policy.in_force import PolicyInForce

from ..support.attaching import attach_once
from ..support.dead_files import DeadFiles
from ..support.policies import read
from ..support.served import Served, serving
from ..support.waiting import awaited

EVERYTHING = """
[[rule]]
calls = ["start", "read", "output", "attach"]
jobs = "all"
commands = ["/usr/bin/true", "/usr/bin/cat", "/usr/bin/sleep"]
env = ["DEAD"]
stdin = true
"""
DEAD = JobSpec("true", env={"DEAD": ""})
MORE_THAN_THERE_ARE_THREADS = 100
A, B = ClientId("a", "CN=1"), ClientId("b", "CN=1")


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[DeadFiles]:
    """Lookups that hang, until the test has ended."""
    lookup = DeadFiles(tmp_path)
    yield lookup
    lookup.release()


async def error_of(call: object) -> RpcError:
    """Return the error of a call."""
    with pytest.raises(RpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value


async def test_lookups_that_hang_delay_no_other_client_and_no_reload(people: Path, dead: DeadFiles) -> None:
    """A client whose lookups all hang delays neither another client's starts nor a reload."""
    policy = PolicyInForce(read(EVERYTHING))
    patient = Bounds(lookup_timeout=1000)
    async with (
        serving(people, policy=policy, lookup=dead, bounds=patient) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        hanging = [asyncio.create_task(alice.start(DEAD)) for _ in range(MORE_THAN_THERE_ARE_THREADS)]
        await awaited(lambda: begun(dead, patient.max_lookups_per_client))
        assert (await bob.start(JobSpec("true"))).id
        assert await served.server.reload_certificates() is None
        assert [] == [each for each in hanging if each.done()]
        assert patient.max_lookups_per_client == dead.begun
        dead.release()
        await asyncio.gather(*hanging)


async def begun(dead: DeadFiles, lookups: int) -> bool:
    """Whether so many lookups hang."""
    return dead.begun >= lookups


async def test_a_call_whose_lookup_hangs_gets_an_answer(people: Path, dead: DeadFiles) -> None:
    """It names the setting, and nothing was started."""
    policy, bounds = PolicyInForce(read(EVERYTHING)), Bounds(lookup_timeout=0.05)
    async with (
        serving(people, policy=policy, lookup=dead, bounds=bounds) as served,
        served.client("alice") as alice,
    ):
        for _ in range(2 * bounds.max_lookups_per_client):
            error = await error_of(alice.start(DEAD))
            assert "Unavailable" == error.code
            assert "0.05 s (setting lookup_timeout); its user database or a file" in error.message
        assert [] == await served.worker.list()


async def test_a_permit_is_withdrawn_although_lookups_of_others_hang(people: Path, dead: DeadFiles) -> None:
    """A new policy ends the calls of each client, whatever the check of another one waits for."""
    policy = PolicyInForce(read(EVERYTHING))
    async with (
        serving(people, policy=policy, lookup=dead, bounds=Bounds(lookup_timeout=1000)) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await bob.start(JobSpec("cat", stdin=True)))
        attached = asyncio.create_task(write(alice, job))
        await awaited(lambda: served_calls(served, 1))
        wait = asyncio.create_task(Job(bob, job).wait())
        await awaited(lambda: served_calls(served, 2))
        dead.command = "cat"  # only the check of an Attach to a job of another owner looks up
        policy.policy = read(EVERYTHING.replace("[[rule]]", '[[rule]]\nclients = ["alice"]'))
        served.server.policy_replaced()
        assert "NotFound" == (await error_of(wait)).code
        await awaited(lambda: begun(dead, 1))
        assert not attached.done()
        policy.policy = read(EVERYTHING.replace("[[rule]]", '[[rule]]\nclients = ["nobody"]'))
        dead.release()
        assert "NotFound" == (await error_of(attached)).code


async def test_a_server_closes_although_lookups_hang(people: Path, dead: DeadFiles) -> None:
    """Neither a start nor the check of a call that goes on keeps it."""
    policy = PolicyInForce(read(EVERYTHING))
    async with (
        serving(people, policy=policy, lookup=dead, bounds=Bounds(lookup_timeout=1000)) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await bob.start(JobSpec("cat", stdin=True)))
        calls = [asyncio.create_task(write(alice, job)), asyncio.create_task(alice.start(DEAD))]
        await awaited(lambda: served_calls(served, 1))
        dead.command = "cat"
        policy.policy = read(EVERYTHING)
        served.server.policy_replaced()
        await awaited(lambda: begun(dead, 2))
        await served.server.close()
        await asyncio.gather(*calls, return_exceptions=True)


async def served_calls(served: Served, calls: int) -> bool:
    """Whether so many calls that go on for long are served."""
    return calls == len(served.server._calls.standing._calls)


async def write(client: Client, job: str) -> None:
    """Attach with input, until the server ends the call."""
    async with attach_once(client, job, session="s", output={}) as call:
        while await call.receive() is not None:
            pass


async def test_a_client_whose_threads_all_hang_is_refused_at_once() -> None:
    """So that its calls do not occupy the turns of others; another client's lookup runs."""
    threads, end = LookupThreads(Bounds(lookup_timeout=0, max_lookups_per_client=2)), Event()
    for _ in range(2):
        with pytest.raises(HostUnresponsive):
            await threads.run(A, end.wait)
    with pytest.raises(HostUnresponsive):
        threads.run(A, lambda: 1).send(None)  # it waits for nothing
    waiting = threads.run(B, lambda: 1)
    assert waiting.send(None) is not None
    waiting.close()
    end.set()
    await awaited(lambda: has_ended(threads))


async def has_ended(threads: LookupThreads) -> bool:
    """Whether no lookup is running."""
    return not threads._running


async def test_lookups_of_one_client_are_bounded_and_so_are_all() -> None:
    """Clients take turns for what is left; a call that has ended gives its turn away."""
    bounds = Bounds(max_lookups=3, max_lookups_per_client=2, lookup_timeout=1000)
    threads, end, order = LookupThreads(bounds), Event(), list[str]()

    def work(name: str) -> str:
        order.append(name)
        end.wait()
        return name

    async def run(client: ClientId, name: str) -> str:
        runner.set(threads.of(client))
        return await look_up(work, name)

    names = [(A, "a1"), (A, "a2"), (A, "a3"), (A, "a4"), (B, "b1"), (B, "b2")]
    tasks = [asyncio.create_task(run(*each)) for each in names]
    await awaited(lambda: is_full(order, 3))
    assert {"a1", "a2", "b1"} == set(order)
    tasks[2].cancel()
    end.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found.pop(2), asyncio.CancelledError)
    assert ["a1", "a2", "a4", "b1", "b2"] == found
    assert "a3" not in order


async def is_full(order: list[str], count: int) -> bool:
    """Whether so many lookups have begun."""
    return len(order) >= count


async def test_threads_are_used_again_and_end_with_the_server() -> None:
    """One after the other needs one thread; after the end of the server, starts that go on can look up."""
    threads, end = LookupThreads(Bounds()), Event()
    found = {await threads.run(A, current_thread) for _ in range(10)}
    assert 1 == len(found)
    hanging = asyncio.create_task(threads.run(A, lambda: (end.wait(), current_thread())[1]))
    other = await threads.run(B, current_thread)
    threads.close()
    late = await threads.run(B, current_thread)
    end.set()
    for thread in (other, late, await hanging, *found):
        await asyncio.to_thread(thread.join)


async def test_what_a_lookup_raises_is_raised_to_its_call() -> None:
    """Also ETIMEDOUT of a network file system, which is a TimeoutError."""
    threads = LookupThreads(Bounds())

    def fail() -> None:
        raise TimeoutError(110, "Connection timed out")

    with pytest.raises(TimeoutError, match="Connection timed out"):
        await threads.run(A, fail)
