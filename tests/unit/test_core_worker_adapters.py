"""Adapters that do not fit each other, or do not make what they declare."""

from collections.abc import Collection, Mapping

import pytest

from worker.core import (
    AppendedFile,
    Channel,
    IncompatibleAdapters,
    JobId,
    JobSpec,
    PlacementKind,
    ResourceLimits,
    Scope,
    Sink,
    SinkKind,
    Worker,
)
from worker.core.testing import (
    FakeLimiter,
    FakeMachine,
    FakeSpawner,
    MemoryOutputStore,
)

from ..support.fake_machines import check_nothing_is_left


def test_incompatible_adapters_are_rejected() -> None:
    """An incompatible pair is rejected when the Worker is constructed, not when the first job starts."""

    class NowherePlacing(FakeSpawner):
        @property
        def accepts(self) -> frozenset[PlacementKind]:
            return frozenset({PlacementKind.NONE})

        @property
        def accepts_sinks(self) -> frozenset[str]:
            return frozenset({SinkKind.RECORDED_FIFO, SinkKind.APPENDED_FILE})

    cgroups, none = FakeLimiter(kind=PlacementKind.CGROUPS), FakeLimiter()
    with pytest.raises(IncompatibleAdapters, match="needs the placement cgroups; the spawner accepts none"):
        Worker(spawner=NowherePlacing(), limiter=cgroups, outputs=MemoryOutputStore())
    with pytest.raises(IncompatibleAdapters, match=r"makes in-process sinks; .*-fifo"):
        Worker(spawner=NowherePlacing(), limiter=none, outputs=MemoryOutputStore())


class WrongKind(MemoryOutputStore):
    """A store that does not make the sinks that it declares."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make files instead."""
        await super().create(job, channels, most)
        return {channel: AppendedFile(f"/nonexistent/{channel}") for channel in channels}


class NamesAlone(MemoryOutputStore):
    """A store whose sinks have the kind that it declares, and nothing else of it."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make sinks without a ``write``."""
        await super().create(job, channels, most)
        return dict.fromkeys(channels, KindAlone())


class KindAlone:
    """A sink with nothing but its kind."""

    kind = SinkKind.IN_PROCESS


class OneChannel(MemoryOutputStore):
    """A store that forgets a channel."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make the first sink only."""
        return dict(list((await super().create(job, channels, most)).items())[:1])


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (
            WrongKind,
            "declares in-process sinks, but the sink for stdout is AppendedFile of kind appended-file",
        ),
        (NamesAlone, "declares in-process sinks, but the sink for stdout is KindAlone of kind in-process"),
        (OneChannel, "made sinks for stdout; the job has stderr, stdout"),
    ],
)
async def test_a_store_must_make_the_sinks_that_it_declares(
    outputs: type[MemoryOutputStore], reason: str
) -> None:
    """The start fails with both kinds in the error, and leaves nothing."""
    machine = FakeMachine(outputs=outputs())
    with pytest.raises(IncompatibleAdapters, match=reason):
        await machine.worker().start(JobSpec("true", split_output=True))
    await check_nothing_is_left(machine)


async def test_a_limiter_must_prepare_the_placement_that_it_declares() -> None:
    """The start fails with both kinds in the error, and leaves nothing."""

    class Undeclared(FakeLimiter):
        async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> Scope:
            self.kind = PlacementKind.CGROUPS
            try:
                return await super().prepare(job, limits, parent)
            finally:
                self.kind = PlacementKind.NONE

    machine = FakeMachine(limiter=Undeclared())
    with pytest.raises(IncompatibleAdapters, match="declares the placement none, but prepared cgroups"):
        await machine.worker().start(JobSpec("true"))
    await check_nothing_is_left(machine)
