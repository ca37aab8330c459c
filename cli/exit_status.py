"""Which exit status a command ends with, and the message that explains it."""

import contextlib
from collections.abc import Callable
from errno import E2BIG, EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOEXEC, ENOTDIR, ETXTBSY

import click

from ..core.errors import WorkerError
from .terminal.console import Failure, PipeClosed, printable

INTERRUPTED = 130
"""128 + SIGINT, as in a shell."""

PIPE_CLOSED = 141
"""128 + SIGPIPE."""

RUN_FAILED = 125
"""`worker run`: worker itself failed, not the job; as with docker run and env(1)."""

_SPAWN_FAILED = {ENOENT: 127} | dict.fromkeys(
    (E2BIG, EACCES, ELOOP, ENAMETOOLONG, ENOEXEC, ENOTDIR, ETXTBSY), 126
)


def spawn_failed(errno: int | None) -> int:
    """Return the status of `worker run` when the server refused to start the job; as in a shell."""
    return _SPAWN_FAILED.get(errno or 0, RUN_FAILED)


def after_signal(number: int) -> int:
    """Return the status of a command that this signal interrupted."""
    return 128 + number


def report(error: Exception) -> int:
    """Print an error as one line on stderr and return the exit status."""
    match error:
        case click.ClickException():  # a usage error also prints the usage
            return _print(error.show, _usage_status(error))
        case click.exceptions.Abort():
            return INTERRUPTED
        case PipeClosed():
            return PIPE_CLOSED
        case Failure():
            message, status = str(error), error.status
        case WorkerError():
            message, status = str(error), 1
        case OSError():
            named = f"{error.filename}: " if error.filename else ""
            message, status = f"{named}{error.strerror or error}", 1
        case _:
            message, status = f"internal error, please report it: {_origin(error)}", 1
    return _print(lambda: click.echo(message, err=True), status)


def _usage_status(error: click.ClickException) -> int:
    """Return 2, or of `worker run` a status that the job cannot be taken for, as docker run does."""
    context = getattr(error, "ctx", None)
    of_run = context is not None and context.command.name == "run"
    return RUN_FAILED if of_run else error.exit_code


def _print(write: Callable[[], None], status: int) -> int:
    with contextlib.suppress(OSError):  # stderr may be closed
        write()
    return status


def _origin(error: Exception) -> str:
    """Return an exception and the place that raised it, on one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""
    return printable(f"{type(error).__name__}: {error}{place}")
