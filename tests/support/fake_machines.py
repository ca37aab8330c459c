"""What a test asks a machine of fakes."""

from worker.core.testing import FakeMachine


async def check_nothing_is_left(machine: FakeMachine) -> None:
    """Check that no port has anything of a job."""
    assert [] == list(await machine.journal.load())
    assert {} == machine.limiter.scopes
    assert set() == machine.outputs.jobs
    assert {} == await machine.spawner.recover()
