"""The composition root: connects the core with its adapters."""

from pathlib import Path

from ..core.audit.trail import AuditTrail
from ..core.ports import (
    Clock,
    JobJournal,
    OutputStore,
    ProcessSpawner,
    ResourceLimiter,
)
from ..core.ports.audit import AuditLog
from ..core.worker import Worker
from ..linux.audit.file import AuditFile
from ..linux.audit.journald import Journald
from ..linux.audit.stream import AuditStream
from ..linux.journal.sqlite import SqliteJournal
from ..linux.state.reserve import Reserve
from . import audit_settings
from .audit_settings import AuditSettings
from .home import Home
from .plugins import LIMITERS, OUTPUT_STORES, SPAWNERS
from .settings import ServerSettings
from .terminal.console import Failure


def make_audit(home: Home, settings: AuditSettings) -> AuditTrail:
    """Return the audit of a server; raise Failure if its log cannot be opened."""
    return AuditTrail(
        _open_audit_log(home, settings),
        redaction=settings.redaction,
        reads=settings.audit_reads,
        refuses=settings.refuses,
    )


def _open_audit_log(home: Home, settings: AuditSettings) -> AuditLog | None:
    try:
        match settings.audit:
            case audit_settings.OFF:
                return None
            case audit_settings.JOURNALD:
                return Journald()
            case audit_settings.STDOUT:
                return AuditStream()
            case audit_settings.FILE:
                path = home.audit_log
            case named:
                path = Path(named)
        reserve = Reserve(str(home.path))
        return AuditFile(path, size=settings.audit_size, keep=settings.audit_keep, reserve=reserve)
    except OSError as error:
        where = error.filename or settings.audit
        raise Failure(f"cannot open the audit log: {where}: {error.strerror} (setting audit)") from None


def make_worker(
    home: Home,
    settings: ServerSettings,
    *,
    spawner: ProcessSpawner | None = None,
    limiter: ResourceLimiter | None = None,
    outputs: OutputStore | None = None,
    journal: JobJournal | None = None,
    clock: Clock | None = None,
    audit: AuditTrail | None = None,
) -> Worker:
    """Return the Worker of a server; an adapter that is not given is the one in the settings."""
    return Worker(
        spawner=spawner or SPAWNERS.make(settings.spawner, home.path),
        limiter=limiter or LIMITERS.make(settings.limiter_plugin, home.path),
        outputs=outputs or OUTPUT_STORES.make(settings.output_store, home.path),
        journal=journal or SqliteJournal(home.journal),
        clock=clock,
        limits=settings.limits,
        retention=settings.retention,
        output_max=settings.output_kept,
        signal_all=settings.signal_all,
        audit=audit,
        bounds=settings.job_bounds,
        default_user=settings.default_user,
    )
