"""What api and engine report to the audit: it adds the time, leaves secrets out, and keeps the bounds."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from ..engine.defaults import SystemClock
from ..errors import AuditUnavailable
from ..model.ending import Lost, exit_code
from ..model.execution import Execution
from ..model.job import JobRecord
from ..model.limits import ResourceLimits
from ..model.ulimits import ulimit_text
from ..ports.audit import AuditLog
from ..ports.journal import Clock
from .bounds import LONGEST_TEXT, first_items, limit_values
from .job_options import JobOptions
from .record import AuditRecord, Event, KnownFields, timestamp
from .redaction import Redaction
from .writer import AuditWriter


class AuditTrail:
    """Writes records to an audit log; without a log, nothing.

    ``reads``: calls that change nothing are recorded too. ``refuses``: no call begins whose decision
    cannot be recorded, unless it must always be possible.
    """

    def __init__(
        self,
        log: AuditLog | None = None,
        *,
        redaction: Redaction | None = None,
        reads: bool = False,
        refuses: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._log = None if log is None else AuditWriter(log, self._clock)
        self._redaction = redaction or Redaction()
        # A command is recorded when it is allowed and when it runs.
        self._recent_command = lru_cache(maxsize=16)(self._command)
        self._refuses = refuses
        self.reads = reads and log is not None

    @property
    def enabled(self) -> bool:
        """Whether there is a log."""
        return self._log is not None

    @property
    def trouble(self) -> str:
        """Why the last record could not be stored; empty if it was, or if there is no log."""
        return "" if self._log is None else self._log.trouble

    def write(self, event: Event, record: AuditRecord, *known: KnownFields) -> bool:
        """Store what happens now; return False if it cannot be stored."""
        if self._log is None:
            return True
        if message := record.get("message"):
            record["message"] = self._redaction.text(message)
        if reason := record.get("reason"):  # of a denial: it has the command
            record["reason"] = self._redaction.text(reason)
        return self._log.write({"time": timestamp(self._clock.now()), "event": event, **record}, known)

    def decide(self, record: AuditRecord, *known: KnownFields, always: bool) -> None:
        """Record that a call may begin; raise AuditUnavailable if it may not, because that is impossible.

        ``always``: the call begins in any case.
        """
        if not self.write(Event.DECISION, record, *known) and self._refuses and not always:
            raise AuditUnavailable(self.trouble)

    def command(
        self, command: str, arguments: Sequence[str], environment: Mapping[str, str], directory: str
    ) -> KnownFields:
        """Return a command as it may be recorded: without secrets, and only the names of variables."""
        words, words_cut = first_items((command, *arguments))
        names, names_cut = first_items(environment)
        cut = ("command",) * words_cut + ("environment",) * names_cut
        directory = directory[: LONGEST_TEXT + 1]  # the record is cut, and says so
        return self._recent_command(tuple(words), tuple(names), directory or "/", cut)

    def _command(
        self, words: tuple[str, ...], names: tuple[str, ...], directory: str, cut: tuple[str, ...]
    ) -> KnownFields:
        record: AuditRecord = {"command": self._redaction.command(words)}
        if names:
            record["environment"] = list(names)
        if directory != "/":
            record["directory"] = directory
        if cut:
            record["cut"] = list(cut)
        return KnownFields(record)

    def options(self, job: JobOptions) -> AuditRecord:
        """Return the options of a job that are not the defaults; secrets in labels are left out."""
        record: AuditRecord = {}
        cut = []
        if job.ulimits:
            texts = [ulimit_text(each.name, each.soft, each.hard) for each in job.ulimits]
            record["ulimits"], too_long = first_items(texts)
            cut += ["ulimits"] * too_long
        if job.labels:
            pairs, too_long = first_items([f"{name}={value}" for name, value in job.labels.items()])
            record["labels"] = self._redaction.command(pairs)
            cut += ["labels"] * too_long
        if job.stdin:
            record["stdin"] = True
        if job.terminal is not None:
            record["terminal"] = True
        if job.new_privileges:
            record["new_privileges"] = True
        if cut:
            record["cut"] = cut
        return record

    def execution(self, execution: Execution | None) -> AuditRecord:
        """Return what is executed for a command, if that is decided before: by a policy."""
        if execution is None:
            return {}
        record: AuditRecord = {"executable": execution.path}
        if execution.wrapper:
            record["wrap"] = self._redaction.command(execution.wrapper)
        return record

    def job_started(self, job: JobRecord) -> None:
        """Record that the command of a job is running."""
        if self._log is not None:
            self.write(Event.JOB_STARTED, *self._described(job))

    def job_recovered(self, job: JobRecord) -> None:
        """Record that a job of an earlier server goes on under this one."""
        if self._log is not None:
            self.write(Event.JOB_RECOVERED, *self._described(job))

    def job_ended(self, job: JobRecord) -> None:
        """Record the end of a job; that may be long ago, when no server ran."""
        if self._log is None or job.end is None:
            return
        ending = job.end.ending
        record: AuditRecord = {
            **_job(job),
            **_process(job),
            "ended_at": timestamp(job.end.ended_at),
            "exit_code": exit_code(ending),
            "cause": "lost" if isinstance(ending, Lost) else str(job.end.cause),
            "output": sum(job.end.output.values()),
        }
        if job.started_at is not None:
            record["duration"] = round(job.end.ended_at - job.started_at, 6)
        if isinstance(ending, Lost):
            record["reason"] = ending.reason
        self.write(Event.JOB_ENDED, record)

    def job_removed(self, job: JobRecord) -> None:
        """Record that a finished job is removed now, because it has expired."""
        if self._log is not None and job.end is not None:
            ended: AuditRecord = {"ended_at": timestamp(job.end.ended_at)}
            self.write(Event.JOB_REMOVED, _job(job) | ended)

    def reopen(self) -> None:
        """Open the log again, after another program has moved it away."""
        if self._log is not None:
            self._log.reopen()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _described(self, job: JobRecord) -> tuple[AuditRecord, KnownFields]:
        spec = job.spec
        record: AuditRecord = {
            **_job(job),
            **_process(job),
            **self.execution(job.execution),
            **limits_of(job.limits),
            **self.options(spec),
        }
        if job.effective_user is not None:
            record["user"] = job.effective_user
        if spec.name:
            record["job_name"] = spec.name
        return record, self.command(spec.command, spec.args, spec.env, spec.working_directory)


def limits_of(limits: ResourceLimits) -> AuditRecord:
    """Return the field of limits, if there are any."""
    values = limit_values(limits)
    return {"limits": values} if values else {}


def _job(job: JobRecord) -> AuditRecord:
    record: AuditRecord = {"job": str(job.id), "identity": job.owner}
    if job.issuer:
        record["issuer"] = job.issuer
    return record


def _process(job: JobRecord) -> AuditRecord:
    record: AuditRecord = {}
    if job.pid is not None:
        record["pid"] = job.pid
    if job.started_at is not None:
        record["started_at"] = timestamp(job.started_at)
    return record
