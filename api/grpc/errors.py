"""The one table of errors: what the core raises, and what a client is told."""

import logging
from dataclasses import dataclass
from errno import EAGAIN, EMFILE, ENFILE, ENOMEM
from os import strerror

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ...core import errors as core
from ..draining import ShuttingDown
from ..wire.codec import MalformedMessage
from .framing import ClientStalled
from .status import ERRNO_KEY, code_name

_LONGEST_MESSAGE = 1024
# Bytes. It travels in a header, where clients take 8 KiB in all and each byte may become three.

_STATUS: dict[type[core.WorkerError], Status] = {
    core.JobNotFound: Status.NOT_FOUND,
    core.JobAlreadyFinished: Status.FAILED_PRECONDITION,
    core.JobStillRunning: Status.FAILED_PRECONDITION,
    core.StopIncomplete: Status.DEADLINE_EXCEEDED,
    core.InvalidJobSpec: Status.INVALID_ARGUMENT,
    core.RequestIdReused: Status.ALREADY_EXISTS,
    core.SpawnFailed: Status.INVALID_ARGUMENT,
    core.SpawnerUnavailable: Status.UNAVAILABLE,
    core.LimitsUnsupported: Status.FAILED_PRECONDITION,
    core.LimitsRejected: Status.INVALID_ARGUMENT,
    core.AccessDenied: Status.PERMISSION_DENIED,
    core.OutputUnavailable: Status.OUT_OF_RANGE,
    core.QuotaExceeded: Status.RESOURCE_EXHAUSTED,
    core.StorageUnavailable: Status.FAILED_PRECONDITION,
    core.IncompatibleAdapters: Status.INTERNAL,
    ClientStalled: Status.UNAVAILABLE,
    ShuttingDown: Status.UNAVAILABLE,
}
_SCARCE = {EAGAIN, ENOMEM, EMFILE, ENFILE}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ends that failed."""

    status: Status
    message: str
    errno: int | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """What travels beside status and message."""
        return {} if self.errno is None else {ERRNO_KEY: str(self.errno)}


def failure_of(error: Exception) -> Failure:
    """Return what the client is told; an error that nobody foresaw goes to the log, not to the client."""
    match error:
        case core.SpawnFailed():
            status = Status.RESOURCE_EXHAUSTED if error.errno in _SCARCE else Status.INVALID_ARGUMENT
            return Failure(status, _text(error), error.errno)
        case core.WorkerError():
            known = next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), Status.INTERNAL)
            return Failure(known, _text(error))
        case MalformedMessage():
            return Failure(Status.INVALID_ARGUMENT, f"malformed request: {_text(error)}")
        case OSError() if error.errno in _SCARCE:
            reason = f"the worker is short of resources: {strerror(error.errno)}"
            return Failure(Status.RESOURCE_EXHAUSTED, reason, error.errno)
        case GRPCError():
            return Failure(error.status, _printable(error.message or code_name(error.status)))
    log.error("a call failed unexpectedly", exc_info=error)
    return Failure(Status.INTERNAL, "internal error; see the server's log")


def _text(error: Exception) -> str:
    return _printable(str(error) or type(error).__name__)


def _printable(message: str) -> str:
    """Return text that can be encoded and fits a header."""
    data = message.encode("utf-8", "backslashreplace")
    if len(data) > _LONGEST_MESSAGE:
        return data[: _LONGEST_MESSAGE - 3].decode("utf-8", "ignore") + "..."
    return data.decode()
