"""The one table of errors: which gRPC status and message a client gets for each error."""

import logging
from dataclasses import dataclass
from errno import EAGAIN, EMFILE, ENFILE, ENOMEM
from os import strerror

from ..core import errors as core
from .bounds import ClientStalled
from .grpc.status import ERRNO_KEY, Status
from .shutdown import ShuttingDown
from .wire.decoding import MalformedMessage

_LONGEST_MESSAGE = 1024
# Bytes. It travels in a header, where clients accept 8 KiB in all and each byte may become three.


class CertificateRefused(core.WorkerError):
    """The client is not, or no longer, trusted; the reason is about its certificate."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the server refuses this client: {reason}")


_STATUS: dict[type[core.WorkerError], Status] = {
    core.JobNotFound: Status.NOT_FOUND,
    core.JobUnreadable: Status.DATA_LOSS,
    core.JobAlreadyFinished: Status.FAILED_PRECONDITION,
    core.JobStillRunning: Status.FAILED_PRECONDITION,
    core.JobNameTaken: Status.FAILED_PRECONDITION,
    core.AmbiguousJob: Status.INVALID_ARGUMENT,
    core.ActionRefused: Status.FAILED_PRECONDITION,
    core.InputTaken: Status.FAILED_PRECONDITION,
    core.InputInterrupted: Status.ABORTED,
    core.InputMisplaced: Status.OUT_OF_RANGE,
    core.StopIncomplete: Status.DEADLINE_EXCEEDED,
    core.InvalidJobSpec: Status.INVALID_ARGUMENT,
    core.RequestIdReused: Status.ALREADY_EXISTS,
    core.SpawnFailed: Status.INVALID_ARGUMENT,
    core.SpawnerUnavailable: Status.UNAVAILABLE,
    core.HostUnresponsive: Status.UNAVAILABLE,
    core.LimitsUnsupported: Status.FAILED_PRECONDITION,
    core.LimitBelowUsage: Status.FAILED_PRECONDITION,
    core.LimitsRejected: Status.INVALID_ARGUMENT,
    core.AccessDenied: Status.PERMISSION_DENIED,
    core.OutputUnavailable: Status.OUT_OF_RANGE,
    core.TimesNotKept: Status.FAILED_PRECONDITION,
    core.QuotaExceeded: Status.RESOURCE_EXHAUSTED,
    core.StorageUnavailable: Status.FAILED_PRECONDITION,
    core.IncompatibleAdapters: Status.INTERNAL,
    CertificateRefused: Status.UNAUTHENTICATED,
    ClientStalled: Status.UNAVAILABLE,
    ShuttingDown: Status.UNAVAILABLE,
}
_SCARCE = {EAGAIN, ENOMEM, EMFILE, ENFILE}

log = logging.getLogger(__name__)


class CallRejected(Exception):
    """A call is rejected before it reaches the Worker; carries its own status."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """How a failed call ends: the status, the message and, if a command could not be run, the errno."""

    status: Status
    message: str
    errno: int | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """The trailing metadata that goes with status and message."""
        return {} if self.errno is None else {ERRNO_KEY: str(self.errno)}


def error_reply(error: Exception) -> ErrorReply:
    """Return the reply for an error; an unexpected one is logged, and the client gets no details."""
    match error:
        case core.SpawnFailed():
            status = Status.RESOURCE_EXHAUSTED if error.errno in _SCARCE else Status.INVALID_ARGUMENT
            return ErrorReply(status, _text(error), error.errno)
        case core.WorkerError():
            known = next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), Status.INTERNAL)
            return ErrorReply(known, _text(error))
        case MalformedMessage():
            return ErrorReply(Status.INVALID_ARGUMENT, f"malformed request: {_text(error)}")
        case OSError() if error.errno in _SCARCE:
            reason = f"the worker is short of resources: {strerror(error.errno)}"
            return ErrorReply(Status.RESOURCE_EXHAUSTED, reason, error.errno)
        case CallRejected():
            return ErrorReply(error.status, _text(error))
    log.error("unexpected error in a call", exc_info=error)
    return ErrorReply(Status.INTERNAL, "internal error; see the server's log")


def _text(error: Exception) -> str:
    """Return the error's message in an encodable form that fits a header."""
    data = (str(error) or type(error).__name__).encode("utf-8", "backslashreplace")
    if len(data) > _LONGEST_MESSAGE:
        return data[: _LONGEST_MESSAGE - 3].decode("utf-8", "ignore") + "..."
    return data.decode()
