"""What a policy says about starts, over real TLS: commands, secrets, limits, quotas."""

from dataclasses import replace
from pathlib import Path

import pytest

from worker.client.job import Job
from worker.core.model.job import JobSpec
from worker.core.model.limits import MemoryLimit, ResourceLimits
from worker.core.policy.in_force import PolicyInForce

from ..support.governed import ALICE, LONG, governed, refusal
from ..support.policies import read
from ..support.served import make_spawner, make_worker, serving


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


@pytest.mark.parametrize("field", ["command", "working_directory"])
async def test_a_path_that_no_kernel_accepts_is_not_resolved(people: Path, field: str) -> None:
    """To resolve a path of megabytes would keep a thread busy for minutes."""
    async with governed(people, ALICE) as served, served.client("alice") as alice:
        spec = replace(JobSpec("/usr/bin/true"), **{field: "/usr/.." * 100_000})
        code, text = await refusal(alice.start(spec))
        assert "InvalidArgument" == code
        assert text.endswith("...: File name too long")


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
