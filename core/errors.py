"""The errors that callers of a Worker see.

Each message states the problem and, if there is one, the remedy.
"""


class WorkerError(Exception):
    """Base class of all errors that this package raises deliberately."""


class JobNotFound(WorkerError):
    """No such job: it never existed, it was removed, or the id is malformed."""

    def __init__(self, job: object) -> None:
        super().__init__(f"Job {job} not found")


class JobHidden(JobNotFound):
    """The policy does not let the caller know of the job; ``rule`` is that which denies it, if any."""

    def __init__(self, job: object, rule: str = "") -> None:
        super().__init__(job)
        self.rule = rule


class JobUnreadable(WorkerError):
    """The journal's record of the job is damaged, so nothing is known about it; its output is kept."""

    def __init__(self, job: object) -> None:
        super().__init__(f"the record of job {job} cannot be read; `worker doctor` has the reason")


class JobAlreadyFinished(WorkerError):
    """The job has finished, so it cannot be stopped, updated, signalled or paused."""

    def __init__(self) -> None:
        super().__init__("the process is already finished")


class JobStillRunning(WorkerError):
    """The job cannot be removed until it has finished."""

    def __init__(self, job: object) -> None:
        super().__init__(f"Job {job} is still running; stop it first")


class JobNameTaken(WorkerError):
    """A job of the same owner with this name has not finished."""

    def __init__(self, job: object, name: str) -> None:
        super().__init__(f"job {job} named {name} is running; choose another name, or stop it first")


class AmbiguousJob(WorkerError):
    """Several jobs are what the text refers to; the message names some of them."""


class ActionRefused(WorkerError):
    """The spawner or the host cannot do this with the job, or not in its state; the message states why."""


class InputTaken(WorkerError):
    """Another client writes to the stdin of the job; only one can at a time."""

    def __init__(self, job: object) -> None:
        super().__init__(f"another client writes to the stdin of job {job}")


class InputInterrupted(WorkerError):
    """The input of a session cannot be continued: another session has written to the job since."""

    def __init__(self, job: object) -> None:
        super().__init__(f"another client has written to the stdin of job {job} meanwhile")


class InputMisplaced(WorkerError):
    """The bytes do not continue those that were accepted before."""


class StopIncomplete(WorkerError):
    """The job has not finished in time; it stays STOPPING, and SIGKILL is repeated."""


class InvalidJobSpec(WorkerError):
    """The request is invalid; ``field`` names the invalid part of the job spec."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RequestIdReused(WorkerError):
    """The owner has already used this request id for a different job spec."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request id {request_id!r} was used for another command; choose a new one")


class SpawnFailed(WorkerError):
    """The command could not be executed; ``errno`` is that of execve(2) or an earlier system call."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class SpawnerUnavailable(WorkerError):
    """The spawner cannot be started or reached."""


class HostUnresponsive(WorkerError):
    """A lookup on the host takes too long, or none can begin."""

    def __init__(self, patience: float, reason: str = "") -> None:
        super().__init__(
            "a user or a file cannot be looked up on the host: "
            + (reason or f"it takes longer than {patience:g} s (setting lookup_timeout)")
            + "; its user database or a file system may not respond"
        )


class LimitsUnsupported(WorkerError):
    """This host cannot enforce the requested limit; the message has the reason and the remedy."""


class LimitsRejected(WorkerError):
    """The kernel rejected the value of a limit; the message has the file and the data."""


class LimitBelowUsage(LimitsRejected):
    """The job uses more than the requested limit; the message states how much."""


class AccessDenied(WorkerError):
    """The caller is not permitted to do this; ``rule`` is the name of the rule that denies it, if any."""

    def __init__(self, message: str, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class OutputUnavailable(WorkerError):
    """The requested output is not kept.

    ``first`` is the offset of the first kept byte, None if no output is kept.
    """

    def __init__(self, message: str, first: int | None = None) -> None:
        super().__init__(message)
        self.first = first


class NoOutputKept(OutputUnavailable):
    """The store has nothing of this channel: it was deleted, or the job does not have it."""


class TimesNotKept(WorkerError):
    """It is not known when this output was written; the message states why."""


class QuotaExceeded(WorkerError):
    """A bound of the server is reached, or its disk is full; a later attempt may succeed."""


class StorageUnavailable(WorkerError):
    """The state directory cannot be written: it is read-only, missing or broken."""


class JournalUnusable(StorageUnavailable):
    """The journal cannot be read or written: it is corrupt, of a newer version, or the disk fails."""


class AuditUnavailable(StorageUnavailable):
    """The audit log cannot be written, and the server refuses what it cannot record."""

    def __init__(self, trouble: str) -> None:
        super().__init__(f"the audit log cannot be written: {trouble} (setting audit_failure)")


class IncompatibleAdapters(WorkerError):
    """These adapters cannot work together; raised when the Worker is constructed."""
