"""The policy at the edge: each call of each client over real TLS, and what it hides."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from worker.api import certificates
from worker.api.certificates import KeyType
from worker.api.methods import METHODS, SERVICES
from worker.api.roles import RIGHTS, Right, Role
from worker.api.who_am_i import AllowedCalls
from worker.client.client import Client
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.audit.trail import AuditTrail
from worker.core.model.channel import Channel
from worker.core.model.job import JobSpec
from worker.core.model.limits import MemoryLimit, ResourceLimits
from worker.core.model.stream_start import BEGINNING
from worker.core.model.terminal import WindowSize
from worker.core.policy.calls import CallGroup, StartFacts
from worker.core.policy.in_force import PolicyInForce
from worker.core.policy.rules import Policy
from worker.core.testing import MemoryAuditLog
from worker.linux.spawner.host_lookup import HostLookup
from worker.proto.worker import QueryRequest, QueryResponse

from ..support.attaching import attach_once
from ..support.audit_page import assert_documented
from ..support.policies import read
from ..support.served import Served, make_spawner, make_worker, serving, unary
from ..support.waiting import awaited

ALICE = """
[[rule]]
name = "alice"
clients = ["alice"]
calls = ["start", "read", "output", "stop", "signal", "update", "attach", "remove"]
commands = ["/usr/bin/true", { path = "/usr/bin/sleep", args = ["*"] }, "/usr/bin/cat"]
stdin = true
"""
UNKNOWN = "00000000-0000-4000-8000-000000000000"
LONG = JobSpec("sleep", ["1000"])


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of two writers and a reader."""
    pki = tmp_path_factory.mktemp("people") / "pki"
    certificates.init(pki, key_type=KeyType.P256)
    for name in ("alice", "bob"):
        certificates.issue(pki, name, [Role.WRITER], key_type=KeyType.P256)
    certificates.issue(pki, "nobody", [], key_type=KeyType.P256)
    return pki


@asynccontextmanager
async def governed(people: Path, policy: str) -> AsyncIterator[Served]:
    """Serve with a policy."""
    async with serving(people, policy=PolicyInForce(read(policy))) as served:
        yield served


async def refusal(call: object) -> tuple[str, str]:
    """Return code and message of a call that is refused."""
    answer = anext(call) if isinstance(call, AsyncGenerator) else call
    with pytest.raises(RpcError) as caught:
        await answer  # type: ignore[misc]
    return caught.value.code, caught.value.message


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


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        (JobSpec("true"), None, ""),
        (JobSpec("sleep", ["0", "0"]), "PermissionDenied", "may not start sleep: no rule of the policy"),
        (JobSpec("true", env={"A": "1"}), "PermissionDenied", "no rule"),
        (JobSpec("echo"), "PermissionDenied", "no rule"),
        (JobSpec("/no/such/file"), "PermissionDenied", "no rule"),
        (JobSpec("nosuch"), "InvalidArgument", "nosuch: No such file or directory"),
    ],
)
async def test_starts(people: Path, spec: JobSpec, code: str | None, text: str) -> None:
    """A start is allowed as a rule states; a path that no rule allows does not reveal whether it exists."""
    async with governed(people, ALICE) as served, served.client("alice") as alice:
        if code is None:
            job = (await alice.start(spec)).id
            assert "/usr/bin/true" == (await alice.query(str(job))).record.execution.path  # type: ignore[union-attr]
        else:
            found = await refusal(alice.start(spec))
            assert code == found[0]
            assert text in found[1]
    async with governed(people, ALICE) as served, served.client("bob") as bob:
        assert "PermissionDenied" == (await refusal(bob.start(JobSpec("nosuch"))))[0]


async def test_secrets_are_allowed_by_name(people: Path) -> None:
    """A rule without a list allows none; one that is not listed denies the start."""
    for policy, names, code in (
        (ALICE, ["db"], "PermissionDenied"),
        (ALICE + 'secrets = ["db*"]\n', ["db", "db-2"], None),
        (ALICE + 'secrets = ["db*"]\n', ["db", "token"], "PermissionDenied"),
    ):
        spawner, secrets = make_spawner(), dict.fromkeys(names, b"x")
        in_force = PolicyInForce(read(policy))
        async with (
            serving(people, make_worker(spawner=spawner), policy=in_force) as served,
            served.client("alice") as alice,
        ):
            if code is None:
                job = (await alice.start(LONG, secrets=secrets)).id
                assert secrets == spawner.secrets[job]
                await Job(alice, job).stop(grace=0)
            else:
                assert code == (await refusal(alice.start(LONG, secrets=secrets)))[0]
                assert {} == spawner.secrets


async def test_no_rule_makes_a_reader_a_writer(people: Path) -> None:
    """The right of the role is required whatever the policy allows, also without any role."""
    async with governed(people, '[[rule]]\ncalls = ["all"]\ncommands = ["*"]\njobs = "all"\n') as served:
        async with served.client("reader") as reader:
            assert [] == await reader.list()
            assert "PermissionDenied" == (await refusal(reader.start(JobSpec("true"))))[0]
        async with served.client("nobody") as nobody:
            assert "PermissionDenied" == (await refusal(nobody.list()))[0]


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


@pytest.mark.parametrize("field", ["command", "working_directory"])
async def test_a_path_that_no_kernel_accepts_is_not_resolved(people: Path, field: str) -> None:
    """To resolve a path of megabytes would keep a thread busy for minutes."""
    async with governed(people, ALICE) as served, served.client("alice") as alice:
        spec = replace(JobSpec("/usr/bin/true"), **{field: "/usr/.." * 100_000})
        code, text = await refusal(alice.start(spec))
        assert "InvalidArgument" == code
        assert text.endswith("...: File name too long")


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
    """Whoever must be in a sandbox does not get out of it by writing to a job that is not in one."""
    both = '[[rule]]\nname = "attach"\nclients = ["bob"]\ncalls = ["read", "attach"]\njobs = "all"\n'
    start = ALICE.replace('"alice"', '"bob"') + 'wrap = ["/usr/bin/env"]\n'
    async with governed(people, ALICE + both + start) as served, served.client("bob") as bob:
        async with served.client("alice") as alice:
            job = str(await alice.start(JobSpec("cat", stdin=True)))

        async def write() -> None:
            async with attach_once(bob, job, session="s", output={}):
                pass

        assert "PermissionDenied" == (await refusal(write()))[0]


async def test_limits_of_a_rule(people: Path) -> None:
    """The defaults and maxima of the rule apply to a start, and the maxima to an update."""
    policy = (
        ALICE + "limits.default = { memory = '64M' }\nlimits.maximum = { memory = '128M', pids = 50 }\n"
    )
    async with governed(people, policy) as served, served.client("alice") as alice:
        job = str(await alice.start(LONG))
        limits = (await alice.query(job)).record.limits
        assert (64 << 20, 50) == (limits.memory.max, limits.pids)
        more = ResourceLimits(memory=MemoryLimit(max=256 << 20))
        assert "PermissionDenied" == (await refusal(Job(alice, job).update(more)))[0]
        code, text = await refusal(alice.start(JobSpec("true", limits=more)))
        assert "PermissionDenied" == code
        assert "limits.memory.max: 268435456 is above the rule's maximum of 134217728" in text
        assert text.startswith("'alice' may not start true: no rule of the policy allows it; rule ")
        await Job(alice, job).update(ResourceLimits(memory=MemoryLimit(max=100 << 20)))
        await Job(alice, job).stop(grace=0)


async def test_quotas_count_running_jobs_of_each_owner(people: Path) -> None:
    """An owner at its quota is refused until a job has finished; other owners are not affected."""
    policy = ALICE.replace('clients = ["alice"]', "") + '[[quota]]\nname = "two"\nrunning_jobs = 2\n'
    async with (
        governed(people, policy) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        jobs = [str(await alice.start(LONG)) for _ in range(2)]
        code, text = await refusal(alice.start(LONG))
        assert "ResourceExhausted" == code
        assert "'alice' has 2 running jobs, the maximum is 2 (quota 'two' of the policy)" == text
        jobs_of_bob = [str(await bob.start(LONG))]
        await Job(alice, jobs.pop()).stop(grace=0)
        jobs.append(str(await alice.start(LONG)))
        for job in jobs:
            await Job(alice, job).stop(grace=0)
        await Job(bob, jobs_of_bob[0]).stop(grace=0)


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


async def test_the_audit_log_has_the_rule_that_decided(people: Path) -> None:
    """Allowed or denied, also where the client is told that there is no such job."""
    log = MemoryAuditLog()
    hidden = '[[rule]]\nname = "no cat"\neffect = "deny"\ncalls = ["start"]\ncommands = ["/usr/bin/cat"]\n'
    policy = PolicyInForce(read(ALICE + hidden))
    async with (
        serving(people, policy=policy, audit=AuditTrail(log)) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await alice.start(LONG))
        await refusal(alice.start(JobSpec("cat")))
        await refusal(alice.start(JobSpec("echo")))
        await refusal(bob.query(job))
        await refusal(Job(bob, job).stop())
        await bob.who_am_i()
        await refusal(alice.start(JobSpec("nosuch")))
        await Job(alice, job).stop(grace=0)
    decisions = [each for each in log.records if each["event"] == "decision"]
    assert [
        ("alice", "Start", True, "alice", None),
        ("alice", "Start", False, "no cat", "rule 'no cat' of the policy denies it"),
        ("alice", "Start", False, None, "no rule of the policy allows it"),
        ("bob", "Query", False, None, "does not let 'bob' read this job"),
        ("bob", "Stop", False, None, "does not let 'bob' read this job"),
        ("alice", "Stop", True, "alice", None),
    ] == [
        (each["identity"], each["method"], each["allowed"], each.get("rule"), text_in(each.get("reason")))
        for each in decisions
    ]
    assert [["sleep", "1000"], ["cat"], ["echo"]] == [each["command"] for each in decisions[:3]]
    assert [job, job] == [each["job"] for each in decisions[3:5]]
    # No decision was made about a command that does not exist; a denied call has no outcome.
    assert ["OK", "InvalidArgument", "OK"] == [
        each["code"] for each in log.records if each["event"] == "outcome"
    ]
    assert_documented(log.records)


async def test_the_audit_log_has_what_is_executed(people: Path) -> None:
    """The decision about a start and the start have the wrapper of the rule; the names of secrets, too."""
    log = MemoryAuditLog()
    policy = PolicyInForce(read(ALICE + 'wrap = ["/usr/bin/env", "-i"]\nsecrets = ["*"]\n'))
    async with (
        serving(people, policy=policy, audit=AuditTrail(log)) as served,
        served.client("alice") as alice,
    ):
        job = str(await alice.start(LONG, secrets={"db": b"my content", "key": b"my content"}))
        await Job(alice, job).stop(grace=0)
    decision, started = (
        next(each for each in log.records if each["event"] == event)
        for event in ("decision", "job_started")
    )
    executed = {
        "command": ["sleep", "1000"],
        "executable": "/usr/bin/sleep",
        "wrap": ["/usr/bin/env", "-i"],
    }
    assert {"secrets": ["db", "key"], **executed}.items() <= decision.items()
    assert {"job": job, **executed}.items() <= started.items()
    assert "my content" not in json.dumps(log.records)
    assert_documented(log.records)


def text_in(reason: str | None) -> str | None:
    """Return the part of a reason that says what decided."""
    if reason is None:
        return None
    found = re.search(r"(no rule|rule '|does not let).*?(it|job)(?=;|$)", reason)
    assert found is not None
    return found.group()
