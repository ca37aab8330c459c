"""Which exit status a command ends with, and the message that explains it."""

import contextlib
from collections.abc import Sequence
from errno import E2BIG, EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOEXEC, ENOTDIR, ETXTBSY

import click

from ..core.errors import WorkerError
from .terminal.console import FAILED_PRECONDITION, Failure, PipeClosed, printable, show_failure

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


def report(error: Exception, *, as_json: bool = False) -> int:
    """Print an error on stderr, for people or as JSON, and return the exit status."""
    match error:
        case click.exceptions.Abort():
            return INTERRUPTED
        case PipeClosed():
            return PIPE_CLOSED
        case click.exceptions.NoArgsIsHelpError():
            with contextlib.suppress(OSError):  # stderr may be closed
                error.show()
            return error.exit_code
    failure = _failure(error)
    show_failure(failure, as_json=as_json)
    return failure.status


def _failure(error: Exception) -> Failure:
    match error:
        case Failure():
            return error
        case click.ClickException():
            return _usage_failure(error)
        case WorkerError():
            return Failure(str(error))
        case OSError():
            named = f"{error.filename}: " if error.filename else ""
            return Failure(f"{named}{error.strerror or error}", code=_code_of(error))
        case ImportError():
            return Failure(f"a part of this installation cannot be loaded: {error}; install worker again")
        case _:
            return Failure(f"internal error, please report it: {_origin(error)}", code="INTERNAL")


def _usage_failure(error: click.ClickException) -> Failure:
    """Return what is wrong with the command line; people also see the usage."""
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        similar = _similar(error.option_name, error.possibilities)
        error = click.NoSuchOption(error.option_name, possibilities=similar, ctx=error.ctx)
    message = error.format_message().replace("\n\t", " ")  # click puts each of several choices on a line
    text = f"worker: {message}"
    context = getattr(error, "ctx", None)
    if context is not None:
        text += f"\n{context.get_usage()}\nTry `{context.command_path} --help`."
    return Failure(message, _usage_status(error), code="INVALID_ARGUMENT", text=text)


def _similar(name: str, options: Sequence[str]) -> list[str]:
    """Return the options with a similar name: click compares the dashes too, which all have."""
    from difflib import get_close_matches  # noqa: PLC0415 - needed only for an error

    names = {each.lstrip("-"): each for each in options}
    return sorted(names[each] for each in get_close_matches(name.lstrip("-"), names))


def _usage_status(error: click.ClickException) -> int:
    """Return 2, or of `worker run` a status that the job cannot be taken for, as docker run does."""
    context = getattr(error, "ctx", None)
    of_run = context is not None and context.command.name == "run"
    return RUN_FAILED if of_run else error.exit_code


def _code_of(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "NOT_FOUND"
        case PermissionError():
            return "PERMISSION_DENIED"
        case _:
            return FAILED_PRECONDITION


def _origin(error: Exception) -> str:
    """Return an exception and the place that raised it, on one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""
    return printable(f"{type(error).__name__}: {error}{place}")
