"""All fakes together, with one clock: a machine on which Workers can be restarted."""

from dataclasses import dataclass, field

from ..audit.trail import AuditTrail
from ..engine.defaults import MemoryJournal
from ..engine.job_bounds import JobBounds
from ..engine.retention import Retention
from ..worker import Worker
from .fake_limiter import FakeLimiter
from .fake_spawner import PROGRAMS, FakeSpawner, Programs
from .manual_clock import ManualClock
from .memory_outputs import MemoryOutputStore


@dataclass(slots=True)
class FakeMachine:
    """The state that outlives a Worker: jobs, output and journal. Only ``clock.advance`` advances time."""

    programs: Programs = field(default_factory=lambda: PROGRAMS)
    clock: ManualClock = field(default_factory=ManualClock)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    limiter: FakeLimiter = field(default_factory=FakeLimiter)
    outputs: MemoryOutputStore = field(default_factory=MemoryOutputStore)
    spawner: FakeSpawner = field(init=False)

    def __post_init__(self) -> None:
        self.outputs.now = self.clock.now
        self.spawner = FakeSpawner(programs=self.programs, clock=self.clock)

    def worker(
        self,
        *,
        retention: Retention | None = None,
        output_max: int = 0,
        signal_all: bool = False,
        bounds: JobBounds | None = None,
        audit: AuditTrail | None = None,
    ) -> Worker:
        """Return a new Worker on this machine."""
        return Worker(
            spawner=self.spawner,
            limiter=self.limiter,
            outputs=self.outputs,
            journal=self.journal,
            clock=self.clock,
            retention=retention,
            output_max=output_max,
            signal_all=signal_all,
            bounds=bounds,
            audit=audit,
        )
