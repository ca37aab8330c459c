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
    "write_failed",
]


_STDERR = 2


class Failure(Exception):
    """The command failed: the line to print on stderr, and the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


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
