"""Lines on stdout and stderr: answers, failures, notes, progress."""

import contextlib
import os
import sys
import termios

import click

from ...core.model.text import printable

__all__ = [
    "Failure",
    "PipeClosed",
    "WriteFailed",
    "end_line",
    "note",
    "printable",
    "progress",
    "say",
    "show_failure",
    "write_failed",
]


_STDERR = 2


FAILED_PRECONDITION = "FAILED_PRECONDITION"


class Failure(Exception):
    """The command failed; the message says what has happened, and what helps.

    ``status`` is the exit status of the command, ``code`` the name of a gRPC status, for `-o json`.
    ``text`` is what to print without `-o json`; None: the message, after the name of the program.
    """

    def __init__(
        self, message: str, status: int = 1, *, code: str = FAILED_PRECONDITION, text: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.text = text

    def with_status(self, status: int) -> "Failure":
        """Return the same failure with another exit status."""
        return Failure(str(self), status, code=self.code, text=self.text)


class WriteFailed(Failure):
    """Writing to stdout or stderr failed: a full disk, a closed descriptor."""


class PipeClosed(Exception):
    """The reader of stdout has closed the pipe, as `head` does; this is not an error."""


def say(text: str) -> None:
    """Print an answer on stdout; raise PipeClosed or WriteFailed if that fails."""
    try:
        click.echo(text)
    except OSError as error:
        raise write_failed(1, error) from error


def note(text: str) -> None:
    """Print a remark on stderr; ignore a failure, since it is not part of the answer.

    On a terminal in raw mode, which shows the screen of a job, the remark has lines of its own.
    """
    before, after = ("\r\n", "\r\n") if _stderr_is_raw() else ("", "\n")
    with contextlib.suppress(OSError):
        click.echo(f"{before}worker: {text}{after}", err=True, nl=False)


def show_failure(failure: Failure, *, as_json: bool) -> None:
    """Print why the command failed, or failed for one of several jobs, on stderr.

    As JSON it is one line, an object in which scripts find the code; see docs/reference/json.md.
    """
    if as_json:
        import json  # noqa: PLC0415 - few commands fail

        error = {"code": failure.code, "message": str(failure)}
        _print_error(json.dumps({"error": error}, separators=(",", ":")))
    elif failure.text is not None:
        _print_error(failure.text)
    else:
        note(str(failure))


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed
        click.echo(text, err=True)


def end_line() -> None:
    """Continue at the beginning of a line, if stderr is a terminal."""
    with contextlib.suppress(OSError):
        if os.isatty(_STDERR):
            os.write(_STDERR, b"\r\n")


def progress(text: str) -> None:
    """Print on a terminal what the command is waiting for."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(text, err=True)


def _stderr_is_raw() -> bool:
    try:
        return not termios.tcgetattr(_STDERR)[1] & termios.OPOST
    except termios.error:  # not a terminal
        return False


def write_failed(descriptor: int, error: OSError) -> PipeClosed | WriteFailed:
    """Redirect the descriptor to /dev/null, or the interpreter retries at exit; return what to raise."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
    if isinstance(error, BrokenPipeError):
        return PipeClosed()
    name = "stdout" if descriptor == 1 else "stderr"
    return WriteFailed(f"cannot write to {name}: {error.strerror}")
