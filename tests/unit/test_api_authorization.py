"""The policy at the edge: each call of each client over real TLS, and what it hides."""

from dataclasses import replace
from pathlib import Path

from worker.api.methods import METHODS, SERVICES
from worker.api.roles import RIGHTS, Right
from worker.api.who_am_i import AllowedCalls
from worker.client.client import Client
from worker.client.job import Job
from worker.core.model.channel import Channel
from worker.core.model.job import JobSpec
from worker.core.model.limits import MemoryLimit, ResourceLimits
from worker.core.model.stream_start import BEGINNING
from worker.core.policy.calls import CallGroup
from worker.proto.worker import QueryRequest, QueryResponse

from ..support.attaching import attach_once
from ..support.governed import ALICE, LONG, governed, refusal
from ..support.served import serving, unary

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_every_method_has_a_group_of_calls() -> None:
    """A method without a group cannot be in the table, and each group has a right."""
    assert set(CallGroup) == RIGHTS.keys()
    assert all(isinstance(method.group, CallGroup) for method in METHODS.values())
    expected = {
        "Start": "start",
        "Stop": "stop",
        "Query": "read",
        "Stream": "output",
        "Attach": "attach",
        "List": "read",
        "Wait": "read",
        "Update": "update",
        "Remove": "remove",
        "Signal": "signal",
        "Pause": "signal",
        "Resume": "signal",
        "WhoAmI": "read",
    }
    assert expected == {each.name: each.group.value for each in SERVICES["worker.v1.WorkerService"]}
    open_to_all = {each.name for each in METHODS.values() if each.right is None}
    assert {"WhoAmI"} == open_to_all


def test_groups_that_change_something_need_a_writer() -> None:
    """Only calls that read are open to readers, whatever a policy says."""
    assert {CallGroup.READ, CallGroup.OUTPUT} == {
        group for group, right in RIGHTS.items() if right is Right.READ
    }


async def calls_on(client: Client, job: str) -> dict[str, tuple[str, str]]:
    """Return how each call on a job is refused."""
    limits = ResourceLimits(memory=MemoryLimit(max=1 << 20))

    async def attach() -> None:
        async with attach_once(client, job, output={Channel.OUTPUT: BEGINNING}):
            pass

    return {
        "query": await refusal(client.query(job)),
        "wait": await refusal(Job(client, job).wait()),
        "stream": await refusal(Job(client, job).stream()),
        "stop": await refusal(Job(client, job).stop()),
        "signal": await refusal(Job(client, job).signal(15)),
        "pause": await refusal(Job(client, job).pause()),
        "resume": await refusal(Job(client, job).resume()),
        "update": await refusal(Job(client, job).update(limits)),
        "remove": await refusal(Job(client, job).remove()),
        "attach": await refusal(attach()),
    }


async def test_a_job_that_may_not_be_read_does_not_exist(people: Path) -> None:
    """Every call on it is answered as for an unknown job, in the same words; no list contains it."""
    policy = ALICE.replace('clients = ["alice"]', 'clients = ["alice", "bob"]')
    async with (
        governed(people, policy) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await alice.start(LONG))
        hidden, unknown = await calls_on(bob, job), await calls_on(bob, UNKNOWN)
        assert {
            name: (code, text.replace(job, UNKNOWN)) for name, (code, text) in hidden.items()
        } == unknown
        assert {"NotFound"} == {code for code, _ in hidden.values()}
        assert [] == await bob.list()
        assert [job] == [str(each.record.id) for each in await alice.list()]
        await Job(alice, job).stop(grace=0)


async def test_references_to_jobs_that_may_not_be_read(people: Path) -> None:
    """A name, the beginning of an id and ``@last`` mean only jobs that the client may read."""
    policy = ALICE.replace('clients = ["alice"]', 'clients = ["alice", "bob"]')
    async with (
        governed(people, policy) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = (await alice.start(replace(LONG, name="build"))).id
        for text in ("build", str(job)[:8], "@last", "unknown"):
            assert ("NotFound", f"Job {text} not found") == await refusal(bob.query(text))
        own = (await bob.start(replace(LONG, name="build"))).id
        for client, expected in ((alice, job), (bob, own)):
            for text in ("build", str(expected)[:8], "@last"):
                assert expected == (await client.query(text)).record.id


async def test_references_without_a_policy(people: Path) -> None:
    """A name of another owner is found if only one has it, also on the path of the original API."""
    async with (
        serving(people) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
        served.client("nobody") as nobody,
    ):
        job = (await alice.start(replace(LONG, name="build"))).id
        assert job == (await bob.query("build")).record.id
        assert "PermissionDenied" == (await refusal(nobody.query("build")))[0]
        async with served.channel("bob") as channel:
            reply = await unary(
                channel, "/WorkerService/Query", QueryRequest(job_id="build"), QueryResponse
            )
            assert str(job) == reply.job_id
        issuer = (await alice.who_am_i()).issuer
        for owner in ("carol", "dave"):
            await served.worker.start(replace(LONG, name="test"), owner=owner, issuer=issuer)
        assert (
            "InvalidArgument",
            "jobs of several owners are named test: 'carol', 'dave'; use an id",
        ) == await refusal(bob.query("test"))


async def test_a_job_that_may_be_read_is_not_hidden(people: Path) -> None:
    """What a client may read but not change is denied, and the reason names the policy."""
    policy = ALICE + '[[rule]]\nclients = ["bob"]\ncalls = ["read"]\njobs = "all"\n'
    async with (
        governed(people, policy) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await alice.start(LONG))
        assert job == str((await bob.query(job)).record.id)
        code, text = await refusal(Job(bob, job).stop())
        assert "PermissionDenied" == code
        assert "'bob' may not make calls of the group 'stop': no rule of the policy allows it" in text
        assert "PermissionDenied" == (await refusal(Job(bob, job).stream()))[0]
        await Job(alice, job).stop(grace=0)


async def test_no_rule_makes_a_reader_a_writer(people: Path) -> None:
    """The right of the role is required whatever the policy allows, also without any role."""
    async with governed(people, '[[rule]]\ncalls = ["all"]\ncommands = ["*"]\njobs = "all"\n') as served:
        async with served.client("reader") as reader:
            assert [] == await reader.list()
            assert "PermissionDenied" == (await refusal(reader.start(JobSpec("true"))))[0]
        async with served.client("nobody") as nobody:
            assert "PermissionDenied" == (await refusal(nobody.list()))[0]


async def test_who_am_i(people: Path) -> None:
    """Every certificate learns its name, issuer and roles, and what it may do."""
    async with governed(people, ALICE) as served:
        async with served.client("alice") as alice:
            found = await alice.who_am_i()
            assert ("alice", ("writer",), True) == (found.name, found.roles, found.policy)
            assert found.issuer.startswith("CN=")
            assert AllowedCalls("start", own=True, others=False) in found.calls
            assert AllowedCalls("read", own=True, others=False) in found.calls
        async with served.client("nobody") as nobody:
            found = await nobody.who_am_i()
            assert ("nobody", (), ()) == (found.name, found.roles, found.calls)
    async with serving(people) as served, served.client("reader") as reader:
        found = await reader.who_am_i()
        assert not found.policy
        assert ["read", "output"] == [each.group for each in found.calls if each.others]
