"""Everything that can be refused or go wrong, as the caller should see it.

Each message says what is wrong and, where something can be done about it, what.
"""


class WorkerError(Exception):
    """Root of all errors that this package raises on purpose."""


class JobNotFound(WorkerError):
    """There is no such job: it never was, it was removed, or the id is malformed."""

    def __init__(self, job: object) -> None:
        super().__init__(f"Job {job} not found")


class JobAlreadyFinished(WorkerError):
    """The job is over, so there is nothing left to stop."""

    def __init__(self) -> None:
        super().__init__("the process is already finished")


class JobStillRunning(WorkerError):
    """The job cannot be removed before it is over."""

    def __init__(self, job: object) -> None:
        super().__init__(f"Job {job} is still running; stop it first")


class StopIncomplete(WorkerError):
    """The kernel has not ended every process yet; the job stays STOPPING and the killing goes on."""


class InvalidJobSpec(WorkerError):
    """The request itself is wrong.

    ``field`` names the part of the specification that is.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RequestIdReused(WorkerError):
    """The same owner has used this request id for another specification."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request id {request_id!r} was used for another command; choose a new one")


class SpawnFailed(WorkerError):
    """The command could not be executed; ``errno`` is what the kernel said (execve(2), errno(3))."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class SpawnerUnavailable(WorkerError):
    """What starts and watches processes cannot be reached or started."""


class LimitsUnsupported(WorkerError):
    """This host cannot enforce the limit that was asked for; the message says why and what helps."""


class LimitsRejected(WorkerError):
    """The kernel refused the value of a limit; the message carries the file and the data."""


class AccessDenied(WorkerError):
    """The caller may not do this."""


class OutputUnavailable(WorkerError):
    """Output that was asked for is not kept (any more).

    ``first`` is the offset of the first byte that still is, or None if there is none at all.
    """

    def __init__(self, message: str, first: int | None = None) -> None:
        super().__init__(message)
        self.first = first


class NoOutputKept(OutputUnavailable):
    """Not a byte is there, nor a place for those to come: somebody has deleted it."""


class QuotaExceeded(WorkerError):
    """A bound of the server is reached, or its disk is full; trying again later may help."""


class StorageUnavailable(WorkerError):
    """What jobs need to be written down cannot be: the place is read-only, gone or broken."""


class JournalUnusable(StorageUnavailable):
    """The journal cannot be read or written: corrupt, from a newer version, or the disk refuses."""


class IncompatibleAdapters(WorkerError):
    """These adapters do not fit together; raised when the Worker is made."""
