"""What a policy says about Attach, over real TLS: to write to a job is as to start it."""

import os
from pathlib import Path

from worker.client.client import Client
from worker.client.job import Job
from worker.core.model.channel import Channel
from worker.core.model.job import JobSpec
from worker.core.model.stream_start import BEGINNING
from worker.core.model.terminal import WindowSize
from worker.core.policy.in_force import PolicyInForce
from worker.linux.spawner.host_lookup import HostLookup

from ..support.attaching import attach_once
from ..support.governed import ALICE, governed, refusal
from ..support.policies import read
from ..support.served import make_spawner, make_worker, serving
from ..support.waiting import awaited


async def test_writing_to_a_job_of_another_owner_is_a_start(people: Path) -> None:
    """A client that may attach, but not start the command, gets the output and cannot write."""
    both = '[[rule]]\nname = "attach"\nclients = ["bob"]\ncalls = ["read", "attach"]\njobs = "all"\n'
    start = ALICE.replace('"alice"', '"bob"').replace("sleep", "nothing")
    for policy, may_write in ((ALICE + both, False), (ALICE + both + start, True)):
        async with governed(people, policy) as served, served.client("bob") as bob:
            async with served.client("alice") as alice:
                job = str(await alice.start(JobSpec("cat", stdin=True)))
            async with attach_once(bob, job, output={Channel.OUTPUT: BEGINNING}):
                pass

            async def write(client: Client = bob, job: str = job) -> None:
                async with attach_once(client, job, session="s", output={}):
                    pass

            if may_write:
                await write()
            else:
                code, text = await refusal(write())
                assert "PermissionDenied" == code
                assert "may not write to this job" in text


async def test_the_user_of_a_job_is_not_that_of_a_later_default(people: Path) -> None:
    """Who may start commands as the default user of today may not write to a job of root."""
    both = '[[rule]]\nname = "attach"\nclients = ["bob"]\ncalls = ["read", "attach"]\njobs = "all"\n'
    start = ALICE.replace('"alice"', '"bob"')
    in_force = PolicyInForce()
    async with (
        serving(people, policy=in_force, lookup=HostLookup("nobody")) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await alice.start(JobSpec("cat", stdin=True)))
        in_force.policy = read(ALICE + both + start)

        async def write() -> None:
            async with attach_once(bob, job, session="s", output={}):
                pass

        assert "PermissionDenied" == (await refusal(write()))[0]
        own = start + f'users = ["{os.geteuid()}"]\n'
        in_force.policy = read(ALICE + both + own)
        await write()


async def test_who_resizes_a_terminal_attaches(people: Path) -> None:
    """An Attach without input can change the size of a terminal: to get the output is not enough for it."""
    spawner, rule = make_spawner(), '[[rule]]\nclients = ["bob"]\njobs = "all"\n'
    job_of_alice = ALICE + "terminal = true\n"
    in_force = PolicyInForce(read(job_of_alice + rule + 'calls = ["read", "output"]\n'))
    async with (
        serving(people, make_worker(spawner=spawner), policy=in_force) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = (await alice.start(JobSpec("sleep", ["1000"], terminal=WindowSize(24, 80)))).id

        async def resize() -> None:
            async with attach_once(bob, job, output={Channel.OUTPUT: BEGINNING}) as call:
                await call.resize(WindowSize(50, 132))

                async def resized() -> bool:
                    return len(spawner.sizes(job)) == 2

                await awaited(resized)

        code, text = await refusal(resize())
        assert "PermissionDenied" == code
        assert "calls of the group 'attach'" in text
        assert [WindowSize(24, 80)] == spawner.sizes(job)
        in_force.policy = read(job_of_alice + rule + 'calls = ["read", "attach"]\n')
        await resize()
        assert [WindowSize(24, 80), WindowSize(50, 132)] == spawner.sizes(job)
        await Job(alice, job).stop(grace=0)


async def test_a_wrapped_job_is_not_written_to_by_a_client_with_another_wrapper(people: Path) -> None:
    """A client that must run in a sandbox cannot write to a job that is not in one."""
    both = '[[rule]]\nname = "attach"\nclients = ["bob"]\ncalls = ["read", "attach"]\njobs = "all"\n'
    start = ALICE.replace('"alice"', '"bob"') + 'wrap = ["/usr/bin/env"]\n'
    async with governed(people, ALICE + both + start) as served, served.client("bob") as bob:
        async with served.client("alice") as alice:
            job = str(await alice.start(JobSpec("cat", stdin=True)))

        async def write() -> None:
            async with attach_once(bob, job, session="s", output={}):
                pass

        assert "PermissionDenied" == (await refusal(write()))[0]
