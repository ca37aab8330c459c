"""The `worker` command: finds the one that is meant, and ends with the right status.

No other command is imported than the one that runs: see `python -X importtime`. What a short
command takes is imports and teardown, so both are spared what can be (docs/performance.md).
"""

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

import click

from ..core.errors import WorkerError
from .terminal.console import Failure, PipeClosed, printable

INTERRUPTED = 130
"""128 + SIGINT, as shells tell it."""

PIPE_CLOSED = 141
"""128 + SIGPIPE."""


class Deferred(click.Command):
    """A command that is known by name and summary, and imported when it is invoked."""

    def __init__(self, name: str, module: str, summary: str, attribute: str | None = None) -> None:
        super().__init__(name, help=summary)
        self._module = module
        self._attribute = attribute or name

    def load(self) -> click.Command:
        """Return the command itself, without looking for garbage among what is here to stay."""
        gc.disable()
        module = import_module(f".commands.{self._module}", __package__)
        gc.freeze()
        gc.enable()
        found = getattr(module, self._attribute)
        assert isinstance(found, click.Command)
        return found


class DeferredGroup(click.Group):
    """A group whose help and completion need nothing of its commands but the summary."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table below rather than of the alphabet."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Deferred) else command, rest


COMMANDS = (
    Deferred("up", "up", "Start a server of your own in the background."),
    Deferred("down", "down", "End the server in the background; jobs run on."),
    Deferred("start", "start", "Start a command as a job."),
    Deferred("run", "run", "Run a command as a job and exit with its exit code."),
    Deferred("stream", "stream", "Print a job's output from its first byte until it ends."),
    Deferred("query", "jobs", "Print the status of a job."),
    Deferred("stop", "jobs", "End a job with all of its processes."),
    Deferred("list", "jobs", "Print all jobs.", "list_jobs"),
    Deferred("wait", "jobs", "Wait for the end of a job and print its exit code."),
    Deferred("update", "update", "Change limits of a running job."),
    Deferred("remove", "jobs", "Forget a job that is over, with its output."),
    Deferred("serve", "serve", "Run the server in the foreground."),
    Deferred("certs", "certs", "Make the keys and certificates of servers and clients."),
    Deferred("doctor", "doctor", "Tell what this machine can do, what is missing and what helps."),
)


@click.group(
    cls=DeferredGroup,
    commands={each.name: each for each in COMMANDS if each.name},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="systemd-wrapper", message="%(prog)s %(version)s")
def worker() -> None:
    """Run commands on a machine, from here or from elsewhere: safely, and without losing any output."""


def main() -> None:
    """Run the command line of this process, and exit."""
    _open_standard_descriptors()
    # What is printed may come from elsewhere and need not fit this terminal's encoding.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    _leave(status)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status; whatever goes wrong is told in one line."""
    try:
        _refuse_bytes(arguments)
        status = worker.main(arguments, prog_name="worker", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, no user sees a traceback
        return _explain(error)
    return status if isinstance(status, int) else 0


def _leave(status: int) -> NoReturn:
    """End the process as it is: to take an interpreter apart takes longer than most calls.

    By now a command has ended its tasks and threads and closed what is its own. A profiler, which
    has its say at the end of the interpreter, is to call `run`.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed before we began
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)  # the interpreter tries again, and has its own way to tell
    os._exit(status)


def _explain(error: Exception) -> int:
    """Tell what went wrong, and return the exit status that says so too."""
    match error:
        case click.UsageError():
            return _tell(error.show, error.exit_code)
        case click.exceptions.Abort():
            return INTERRUPTED
        case PipeClosed():
            return PIPE_CLOSED
        case Failure():
            message, status = str(error), error.status
        case click.ClickException():
            message, status = error.format_message(), error.exit_code
        case WorkerError():
            message, status = str(error), 1
        case OSError():
            named = f"{error.filename}: " if error.filename else ""
            message, status = f"{named}{error.strerror or error}", 1
        case _:
            message, status = f"internal error, please report it: {_origin(error)}", 1
    return _tell(lambda: click.echo(message, err=True), status)


def _open_standard_descriptors() -> None:
    """Fill the places of stdin, stdout and stderr, lest a socket land there and be taken for one.

    They are opened for reading, so that writing to what was closed still fails.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """Refuse arguments that are no text in this locale's encoding: the wire carries Unicode."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= char <= "\udfff" for char in argument):
            raise click.UsageError(
                f"argument {os.fsencode(argument)!r} is not valid {sys.getfilesystemencoding()}"
            )


def _tell(say: Callable[[], None], status: int) -> int:
    with contextlib.suppress(OSError):  # a closed stderr: nobody is left to be told
        say()
    return status


def _origin(error: Exception) -> str:
    """Return an exception and the place it comes from, on one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""
    return printable(f"{type(error).__name__}: {error}{place}")


if __name__ == "__main__":
    main()
