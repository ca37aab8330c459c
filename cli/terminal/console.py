"""What a person at the terminal sees: answers, failures, progress."""

import contextlib
import os
import sys

import click


class Failure(Exception):
    """The command cannot do what was asked: one line on stderr, and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class WriteFailed(Failure):
    """What we write to does not take it: a full disk, a closed descriptor."""


class PipeClosed(Exception):
    """Whoever read our stdout has gone away, as `head` does; nothing is wrong."""


def say(text: str) -> None:
    """Print an answer; raise PipeClosed or WriteFailed when stdout does not take it."""
    try:
        click.echo(text)
    except OSError as error:
        raise write_failed(1, error) from error


def note(text: str) -> None:
    """Print a remark that is no part of the answer; where nobody can be told, so be it."""
    with contextlib.suppress(OSError):
        click.echo(f"worker: {text}", err=True)


def progress(text: str) -> None:
    """Tell whoever watches what takes so long."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(text, err=True)


def printable(text: str) -> str:
    r"""Return ``text`` on one line, with control characters written as \n or \x1b."""
    if text.isprintable():
        return text
    # Not by the codec unicode_escape: it is loaded with its first use, when there may be no descriptor.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def write_failed(descriptor: int, error: OSError) -> PipeClosed | WriteFailed:
    """Give the descriptor up, which the interpreter would try again at exit; return what to raise."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
    if isinstance(error, BrokenPipeError):
        return PipeClosed()
    name = "stdout" if descriptor == 1 else "stderr"
    return WriteFailed(f"cannot write to {name}: {error.strerror}")
