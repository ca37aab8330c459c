"""Secrets of jobs reach the spawner, and are part of no record."""

import pytest

from worker.api import translate
from worker.core import ActionRefused, InvalidJobSpec, JobSpec, ProcessSpawner, Worker
from worker.core.model.secrets import LARGEST_SECRET, check_secrets
from worker.core.testing import FakeLimiter, FakeMachine, FakeSpawner, MemoryOutputStore
from worker.proto.worker import Secret, StartRequest

SECRETS = {"password": b"correct horse"}


async def test_only_the_spawner_has_them() -> None:
    """Neither the journal nor a status has them, and a repeated request does not compare them."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["9"]), request_id="r1", secrets=SECRETS)
    assert {job: SECRETS} == machine.spawner.secrets
    assert job == await worker.start(JobSpec("sleep", ["9"]), request_id="r1", secrets={})
    assert "horse" not in repr((await machine.journal.load(), await worker.query(job)))
    await worker.stop(job)


class Plain:
    """A spawner without the capability."""

    def __init__(self) -> None:
        self._spawner = FakeSpawner()

    def __getattr__(self, name: str) -> object:
        if name == "spawn_with_secrets":
            raise AttributeError(name)
        return getattr(self._spawner, name)


async def test_a_spawner_that_cannot_pass_them() -> None:
    """The start is refused, and nothing is left; jobs without secrets start."""
    spawner: ProcessSpawner = Plain()  # type: ignore[assignment] # by delegation
    worker = Worker(spawner=spawner, limiter=FakeLimiter(), outputs=MemoryOutputStore())
    with pytest.raises(ActionRefused, match="cannot pass secrets to jobs"):
        await worker.start(JobSpec("true"), secrets=SECRETS)
    assert [] == await worker.list()
    await worker.start(JobSpec("true"))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\0", "a\n", "\N{SNOWMAN}", "x" * 129])
def test_names(name: str) -> None:
    """A name is that of one visible file."""
    with pytest.raises(InvalidJobSpec, match="secrets: "):
        check_secrets({name: b""})


def test_sizes() -> None:
    """The largest are accepted, and a byte more is not."""
    largest = {f"a{number}": bytes(LARGEST_SECRET) for number in range(16)}
    check_secrets(largest)
    with pytest.raises(InvalidJobSpec, match="1048577 bytes in total; must be at most 1M"):
        check_secrets({**largest, "b": b"x"})
    with pytest.raises(InvalidJobSpec, match=r"secrets.b: 65537 bytes; must be at most 64K"):
        check_secrets({"b": bytes(LARGEST_SECRET + 1)})


def test_on_the_wire() -> None:
    """They are sent with the request; a name that occurs twice is rejected."""
    assert SECRETS == translate.secrets(translate.start_request(JobSpec("true"), "", SECRETS))
    twice = StartRequest(secrets=[Secret(name="a"), Secret(name="a", value=b"1")])
    with pytest.raises(InvalidJobSpec, match=r"secrets.a: is given twice"):
        translate.secrets(twice)
