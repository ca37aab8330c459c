"""The working directory of a job is the one that the policy allowed, also if it is replaced meanwhile."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from worker.api import certificates
from worker.api.certificates import KeyType
from worker.client.client import Client
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.model.job import JobSpec
from worker.core.policy.calls import StartFacts
from worker.core.policy.in_force import PolicyInForce
from worker.core.policy.rules import Policy
from worker.core.testing import FakeLimiter
from worker.core.worker import Worker
from worker.linux.output.store import RecorderStore
from worker.linux.spawner.host_lookup import HostLookup
from worker.linux.spawner.spawner import SupervisorSpawner

from ..support.generations import Machine
from ..support.policies import read
from ..support.served import serving


class Exchanging(HostLookup):
    """Looks up, and then lets the test act before the job is started."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        """Look up, then act."""
        found = super().facts(spec, policy)
        self._act()
        return found


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates."""
    made = tmp_path_factory.mktemp("keys") / "pki"
    certificates.init(made, key_type=KeyType.P256)
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with an allowed one, a secret one, and a link to the allowed one."""
    root = tmp_path / "tree"
    for name in ("allowed/job", "secret/job"):
        (root / name).mkdir(parents=True)
    (root / "link").symlink_to("allowed")
    return root


def real_worker(machine: Machine) -> Worker:
    """Return a Worker with real processes."""
    home = machine.home
    return Worker(spawner=SupervisorSpawner(home), limiter=FakeLimiter(), outputs=RecorderStore(home))


@asynccontextmanager
async def governed(
    machine: Machine, pki: Path, tree: Path, act: Callable[[], object]
) -> AsyncIterator[Client]:
    """Serve real jobs, with a policy that allows one directory; ``act`` runs after each lookup."""
    rule = '[[rule]]\ncalls = ["all"]\ncommands = ["/usr/bin/pwd"]\n'
    policy = PolicyInForce(read(f'path = "/usr/bin"\n{rule}directories = ["{tree}/allowed/*"]\n'))
    async with (
        serving(pki, real_worker(machine), policy=policy, lookup=Exchanging(act)) as served,
        served.client() as client,
    ):
        yield client


async def shown(client: Client, directory: Path) -> str:
    """Start a job in a directory, and return which one it is in, without links."""
    started = await client.start(JobSpec("pwd", ["-P"], working_directory=str(directory)))
    output = [chunk.data async for chunk in Job(client, str(started.id)).stream()]
    return b"".join(output).decode()


async def test_links_are_followed_before_the_decision(machine: Machine, pki: Path, tree: Path) -> None:
    """A path through a link is that of its target: allowed if that is, and the job runs there."""
    async with governed(machine, pki, tree, lambda: None) as client:
        assert f"{tree}/allowed/job\n" == await shown(client, tree / "link" / "job")
        (tree / "link").unlink()
        (tree / "link").symlink_to("secret")
        with pytest.raises(RpcError, match="no rule of the policy allows it"):
            await shown(client, tree / "link" / "job")


@pytest.mark.parametrize("exchanged", ["allowed", "allowed/job"])
async def test_a_directory_that_became_a_link_after_the_decision(
    machine: Machine, pki: Path, tree: Path, exchanged: str
) -> None:
    """The start fails and names the link, whether it is the directory or one above it."""

    def exchange() -> None:
        os.rename(tree / exchanged, tree / "away")
        (tree / exchanged).symlink_to(tree / exchanged.replace("allowed", "secret"))

    async with governed(machine, pki, tree, exchange) as client:
        with pytest.raises(RpcError) as caught:
            await shown(client, tree / "allowed" / "job")
    assert "InvalidArgument" == caught.value.code
    text = caught.value.message
    assert text.startswith(
        f"working directory: {tree}/allowed/job: Not a directory: {tree}/{exchanged} is a"
    )


async def test_a_link_that_was_exchanged_after_the_decision(
    machine: Machine, pki: Path, tree: Path
) -> None:
    """The job gets what the link led to at the decision."""

    def exchange() -> None:
        (tree / "new").symlink_to("secret")
        os.rename(tree / "new", tree / "link")

    async with governed(machine, pki, tree, exchange) as client:
        assert f"{tree}/allowed/job\n" == await shown(client, tree / "link" / "job")


async def test_without_a_policy_links_are_followed(machine: Machine, pki: Path, tree: Path) -> None:
    """The role decides, and the directory is what the path leads to at the start."""
    async with serving(pki, real_worker(machine)) as served, served.client() as client:
        assert f"{tree}/allowed/job\n" == await shown(client, tree / "link" / "job")
