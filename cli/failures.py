"""What an error of the client says to people, and its code for `-o json`."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..client.errors import OTHER_CERTIFICATE, ClientError, RpcError, ServerUnreachable
from ..core.errors import JobAlreadyFinished, JobNotFound
from ..core.model.job import parse_job_id
from .original_lines import original_line
from .terminal.console import FAILED_PRECONDITION, Failure, printable

_LIST = "`worker list` prints all jobs"
_REMEDIES = {
    "PermissionDenied": "`worker whoami` shows what you may do",
    "Unauthenticated": OTHER_CERTIFICATE,
}
"""What helps, by the code of an error of the server."""


def words(error: ClientError) -> str:
    """Return what has happened, without the code."""
    if not isinstance(error, RpcError):
        return printable(str(error))
    remedy = _REMEDIES.get(error.code)
    message = error.message
    if "limits." in message:
        from .options.limit_words import in_options  # noqa: PLC0415 - few errors are about limits

        message = in_options(message)
    return printable(message) + (f"; {remedy}" if remedy else "")


def failure(error: ClientError, more: str = "", status: int = 1) -> Failure:
    """Return the failure of a command because of this error; ``more`` says what follows from it."""
    return Failure(f"{words(error)}; {more}" if more else words(error), status, code=_code(error))


def job_failure(error: RpcError, reference: str, *, one_of_several: bool = False) -> Failure:
    """Return the failure for an error about a job; ``reference`` is what the user has typed."""
    message = _about(error, reference)
    if one_of_several:
        named = reference in message or message.startswith("Job ")
        return Failure(message if named else f"Job {printable(reference)}: {message}", code=error.status)
    command = click.get_current_context().info_name or ""
    return Failure(message, code=error.status, text=original_line(command, reference, error))


@contextmanager
def client_failures(status: int = 1) -> Iterator[None]:
    """Turn an error of the server, of the connection to it, or of a setting into a Failure."""
    try:
        yield
    except ClientError as error:
        raise failure(error, status=status) from None


def _code(error: ClientError) -> str:
    if isinstance(error, RpcError):
        return error.status
    return "UNAVAILABLE" if isinstance(error, ServerUnreachable) else FAILED_PRECONDITION


def _about(error: RpcError, reference: str) -> str:
    job = printable(reference) or repr(reference)
    if error.message == str(JobAlreadyFinished()):
        return f"The process of job {job} is already finished; `worker query {job}` prints how it ended"
    if error.code != "NotFound":
        return words(error)
    try:
        return f"{JobNotFound(parse_job_id(reference))}; {_LIST}"
    except JobNotFound:
        pass
    if reference == "@last":
        return "you have started no job yet; `worker start` starts one"
    return f"No job named {job}; {_LIST}"
