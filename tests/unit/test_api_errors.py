"""The table of errors: a status for each, a message always, never a trace."""

import errno
import logging
from collections.abc import Iterator

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from worker.api.draining import ShuttingDown
from worker.api.grpc.errors import Failure, failure_of
from worker.api.grpc.status import ERRNO_KEY, code_name
from worker.api.wire.codec import MalformedMessage
from worker.core import errors
from worker.core.errors import SpawnFailed, WorkerError


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (errors.JobNotFound("x"), Failure(Status.NOT_FOUND, "Job x not found")),
        (
            errors.JobAlreadyFinished(),
            Failure(Status.FAILED_PRECONDITION, "the process is already finished"),
        ),
        (
            errors.JobStillRunning("x"),
            Failure(Status.FAILED_PRECONDITION, "Job x is still running; stop it first"),
        ),
        (errors.StopIncomplete("pid 7, D"), Failure(Status.DEADLINE_EXCEEDED, "pid 7, D")),
        (errors.InvalidJobSpec("env", "bad"), Failure(Status.INVALID_ARGUMENT, "env: bad")),
        (errors.LimitsUnsupported("no memory"), Failure(Status.FAILED_PRECONDITION, "no memory")),
        (errors.AccessDenied("no"), Failure(Status.PERMISSION_DENIED, "no")),
        (errors.QuotaExceeded("full"), Failure(Status.RESOURCE_EXHAUSTED, "full")),
        (MalformedMessage("cut"), Failure(Status.INVALID_ARGUMENT, "malformed request: cut")),
        (ShuttingDown("again"), Failure(Status.UNAVAILABLE, "the server is shutting down; again")),
        (GRPCError(Status.UNIMPLEMENTED, "gzip"), Failure(Status.UNIMPLEMENTED, "gzip")),
        (GRPCError(Status.ABORTED), Failure(Status.ABORTED, "Aborted")),
    ],
)
def test_errors_and_what_the_client_is_told(error: Exception, failure: Failure) -> None:
    """Status and message are those that the design promises."""
    assert failure == failure_of(error)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_want_of_resources_is_not_the_clients_fault(number: int) -> None:
    """Trying again later may help, unlike with a command that does not exist."""
    assert Failure(Status.RESOURCE_EXHAUSTED, "x", number) == failure_of(SpawnFailed(number, "x"))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG])
def test_a_command_that_cannot_be_run_is_an_invalid_argument(number: int) -> None:
    """The errno travels beside the message."""
    failure = failure_of(SpawnFailed(number, "x"))
    assert Failure(Status.INVALID_ARGUMENT, "x", number) == failure
    assert {ERRNO_KEY: str(number)} == failure.metadata


def all_subclasses(cls: type[WorkerError]) -> Iterator[type[WorkerError]]:
    """Return every error below this one."""
    for each in cls.__subclasses__():
        yield each
        yield from all_subclasses(each)


@pytest.mark.parametrize("kind", sorted(all_subclasses(WorkerError), key=lambda cls: cls.__name__))
def test_every_error_of_the_core_has_its_place(kind: type[WorkerError]) -> None:
    """A new error is not forgotten: none but misuse is Internal, and none is Unknown."""
    error = kind.__new__(kind)
    if isinstance(error, SpawnFailed):
        error.errno = errno.ENOENT
    failure = failure_of(error)
    assert failure.status is not Status.UNKNOWN
    assert (kind is errors.IncompatibleAdapters) == (failure.status is Status.INTERNAL)
    assert failure.message


def test_what_nobody_foresaw_goes_to_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a fixed text, the log the traceback."""
    with caplog.at_level(logging.ERROR):
        failure = failure_of(RuntimeError("/secret/path"))
    assert Failure(Status.INTERNAL, "internal error; see the server's log") == failure
    assert "/secret/path" in caplog.text


def test_a_message_fits_a_header() -> None:
    """A client that sends a long id gets a short answer; what is no Unicode is escaped."""
    assert 1024 == len(failure_of(errors.JobNotFound("x" * 100_000)).message)
    assert 1020 < len(failure_of(errors.JobNotFound("€" * 100_000)).message.encode()) <= 1024
    assert "Job \\udcff not found" == failure_of(errors.JobNotFound("\udcff")).message


def test_names_of_statuses_are_those_of_go() -> None:
    """Scripts that match the original's output go on working."""
    names = [code_name(status) for status in Status]
    assert [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ] == names
