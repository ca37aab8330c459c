"""All fakes together, on one clock: a machine on which Workers come and go."""

from dataclasses import dataclass, field

from ..engine.defaults import MemoryJournal
from ..worker import Worker
from .fake_limiter import FakeLimiter
from .fake_spawner import PROGRAMS, FakeSpawner, Programs
from .manual_clock import ManualClock
from .memory_outputs import MemoryOutputStore


@dataclass(slots=True)
class FakeMachine:
    """What outlives a server: jobs, output and journal. Time passes only by ``clock.advance``."""

    programs: Programs = field(default_factory=lambda: PROGRAMS)
    clock: ManualClock = field(default_factory=ManualClock)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    limiter: FakeLimiter = field(default_factory=FakeLimiter)
    outputs: MemoryOutputStore = field(default_factory=MemoryOutputStore)
    spawner: FakeSpawner = field(init=False)

    def __post_init__(self) -> None:
        self.spawner = FakeSpawner(programs=self.programs, clock=self.clock)

    def worker(self) -> Worker:
        """Return a new Worker over what is there."""
        return Worker(
            spawner=self.spawner,
            limiter=self.limiter,
            outputs=self.outputs,
            journal=self.journal,
            clock=self.clock,
        )
