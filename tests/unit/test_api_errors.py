"""The table of errors: each has a status and a message, and no traceback."""

import errno
import logging
from collections.abc import Iterator

import pytest

from worker.api.errors import CallRejected, ErrorReply, error_reply
from worker.api.grpc.status import ERRNO_KEY, Status, code_name
from worker.api.shutdown import ShuttingDown
from worker.api.wire.decoding import MalformedMessage
from worker.core import errors
from worker.core.errors import SpawnFailed, WorkerError


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (errors.JobNotFound("x"), ErrorReply(Status.NOT_FOUND, "Job x not found")),
        (
            errors.JobAlreadyFinished(),
            ErrorReply(Status.FAILED_PRECONDITION, "the process is already finished"),
        ),
        (
            errors.JobStillRunning("x"),
            ErrorReply(Status.FAILED_PRECONDITION, "Job x is still running; stop it first"),
        ),
        (errors.StopIncomplete("pid 7, D"), ErrorReply(Status.DEADLINE_EXCEEDED, "pid 7, D")),
        (errors.InvalidJobSpec("env", "bad"), ErrorReply(Status.INVALID_ARGUMENT, "env: bad")),
        (errors.LimitsUnsupported("no memory"), ErrorReply(Status.FAILED_PRECONDITION, "no memory")),
        (errors.AccessDenied("no"), ErrorReply(Status.PERMISSION_DENIED, "no")),
        (errors.QuotaExceeded("full"), ErrorReply(Status.RESOURCE_EXHAUSTED, "full")),
        (MalformedMessage("cut"), ErrorReply(Status.INVALID_ARGUMENT, "malformed request: cut")),
        (ShuttingDown("again"), ErrorReply(Status.UNAVAILABLE, "the server is shutting down; again")),
        (CallRejected(Status.UNIMPLEMENTED, "gzip"), ErrorReply(Status.UNIMPLEMENTED, "gzip")),
        (CallRejected(Status.ABORTED, ""), ErrorReply(Status.ABORTED, "CallRejected")),
    ],
)
def test_the_reply_for_each_error(error: Exception, reply: ErrorReply) -> None:
    """Status and message are as the design specifies."""
    assert reply == error_reply(error)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_a_lack_of_resources_is_not_an_invalid_argument(number: int) -> None:
    """A later attempt may succeed, unlike one with a command that does not exist."""
    assert ErrorReply(Status.RESOURCE_EXHAUSTED, "x", number) == error_reply(SpawnFailed(number, "x"))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.E2BIG])
def test_a_command_that_cannot_be_run_is_an_invalid_argument(number: int) -> None:
    """The errno is sent with the message."""
    reply = error_reply(SpawnFailed(number, "x"))
    assert ErrorReply(Status.INVALID_ARGUMENT, "x", number) == reply
    assert {ERRNO_KEY: str(number)} == reply.metadata


def all_subclasses(cls: type[WorkerError]) -> Iterator[type[WorkerError]]:
    """Return every subclass of this error."""
    for each in cls.__subclasses__():
        yield each
        yield from all_subclasses(each)


@pytest.mark.parametrize("kind", sorted(all_subclasses(WorkerError), key=lambda cls: cls.__name__))
def test_every_error_of_the_core_is_in_the_table(kind: type[WorkerError]) -> None:
    """A new error cannot be forgotten: only misuse of the library is Internal, and none is Unknown."""
    error = kind.__new__(kind)
    if isinstance(error, SpawnFailed):
        error.errno = errno.ENOENT
    reply = error_reply(error)
    assert reply.status is not Status.UNKNOWN
    assert (kind is errors.IncompatibleAdapters) == (reply.status is Status.INTERNAL)
    assert reply.message


def test_an_unexpected_error_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a fixed text, and the log contains the traceback."""
    with caplog.at_level(logging.ERROR):
        reply = error_reply(RuntimeError("/secret/path"))
    assert ErrorReply(Status.INTERNAL, "internal error; see the server's log") == reply
    assert "/secret/path" in caplog.text


def test_a_message_fits_a_header() -> None:
    """The answer to a long id is short; invalid Unicode is escaped."""
    assert 1024 == len(error_reply(errors.JobNotFound("x" * 100_000)).message)
    assert 1020 < len(error_reply(errors.JobNotFound("€" * 100_000)).message.encode()) <= 1024
    assert "Job \\udcff not found" == error_reply(errors.JobNotFound("\udcff")).message


def test_names_of_statuses_are_those_of_go() -> None:
    """Scripts that match the original's output continue to work."""
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
