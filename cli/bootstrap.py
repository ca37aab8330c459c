"""The composition root: connects the core with its adapters."""

from ..core.ports import (
    Clock,
    JobJournal,
    OutputStore,
    ProcessSpawner,
    ResourceLimiter,
)
from ..core.worker import Worker
from ..linux.journal.sqlite import SqliteJournal
from .home import Home
from .plugins import LIMITERS, OUTPUT_STORES, SPAWNERS
from .settings import ServerSettings


def make_worker(
    home: Home,
    settings: ServerSettings,
    *,
    spawner: ProcessSpawner | None = None,
    limiter: ResourceLimiter | None = None,
    outputs: OutputStore | None = None,
    journal: JobJournal | None = None,
    clock: Clock | None = None,
) -> Worker:
    """Return the Worker of a server; an adapter that is not given is the one in the settings."""
    return Worker(
        spawner=spawner or SPAWNERS.make(settings.spawner, home.path),
        limiter=limiter or LIMITERS.make(settings.limiter_plugin, home.path),
        outputs=outputs or OUTPUT_STORES.make(settings.output_store, home.path),
        journal=journal or SqliteJournal(home.journal),
        clock=clock,
        policy=settings.limits,
        retention=settings.retention,
        output_max=settings.output_max,
        signal_all=settings.signal_all,
    )
