"""The `worker` command: finds the subcommand, runs it, and exits with its status.

Only the subcommand that runs is imported: see `python -X importtime`. A short command spends most
of its time on imports and interpreter teardown, so both are kept short (docs/explanation/performance.md).
"""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from .exit_status import INTERRUPTED, report
from .terminal.console import Failure

_CLIENT_ONLY = (
    "`worker {}` is not installed: this is the wheel of the client, which has no server and no zygote; "
    "on Linux on x86_64 or aarch64, install the wheel of that architecture, or from the sources"
)


class LazyCommand(click.Command):
    """A command known by its name and summary; its module in cli/commands is imported when it is invoked.

    ``function`` names the command in that module; by default it is NAME.
    """

    def __init__(self, name: str, summary: str, function: str | None = None) -> None:
        super().__init__(name, help=summary)
        self._module = name
        self._function = function or name

    @property
    def installed(self) -> bool:
        """Whether this installation has the command: that of a client has none of the server's."""
        return os.path.exists(f"{os.path.dirname(__file__)}/commands/{self._module}.py")

    def load(self) -> click.Command:
        """Import and return the command; garbage collection is off meanwhile, since the code stays."""
        if not self.installed:
            raise Failure(_CLIENT_ONLY.format(self.name))
        gc.disable()
        module = import_module(f".commands.{self._module}", __package__)
        gc.freeze()
        gc.enable()
        command = getattr(module, self._function)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group that shows its help and completes names without importing its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of those installed in the order of COMMANDS, not in alphabetical order."""
        return [
            name
            for name, command in self.commands.items()
            if not isinstance(command, LazyCommand) or command.installed
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the requested command, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest


COMMANDS = (
    LazyCommand("up", "Start a server of your own in the background."),
    LazyCommand("down", "Stop the server in the background; jobs keep running."),
    LazyCommand("start", "Start a command as a job."),
    LazyCommand("run", "Run a command as a job and exit with its exit code."),
    LazyCommand("stream", "Print a job's output from its first byte until it ends."),
    LazyCommand("attach", "Print a running job's output from now on, and pass stdin on to it."),
    LazyCommand("query", "Print the status of a job."),
    LazyCommand("stop", "Stop a job and all of its processes."),
    LazyCommand("signal", "Send a signal to a job."),
    LazyCommand("pause", "Freeze all processes of a job."),
    LazyCommand("resume", "Let the processes of a paused job continue."),
    LazyCommand("list", "Print all jobs.", "list_jobs"),
    LazyCommand("wait", "Wait until a job has finished and print its exit code."),
    LazyCommand("update", "Change the limits of a running job."),
    LazyCommand("remove", "Remove a finished job and its output."),
    LazyCommand("whoami", "Print who you are to the server, and what you may do."),
    LazyCommand("context", "Keep servers by name, with the keys for them."),
    LazyCommand("serve", "Run the server in the foreground."),
    LazyCommand("certs", "Create keys and certificates for servers and clients."),
    LazyCommand("invite", "Give a user on another machine a certificate."),
    LazyCommand("join", "Accept an invitation to a server on another machine."),
    LazyCommand("policy", "Check a policy, and explain what it allows."),
    LazyCommand("debug", "Show what a job waits for, and its state, processes and files."),
    LazyCommand("doctor", "Check what this machine supports and what is missing."),
)


@click.group(
    cls=LazyGroup,
    commands={str(each.name): each for each in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="systemd-wrapper", message="%(prog)s %(version)s")
def worker() -> None:
    """Run commands as jobs on this or another Linux machine, and stream their output."""


def main() -> None:
    """Run the command line of this process, and exit."""
    _open_standard_descriptors()
    # Output may come from another machine and contain characters that this terminal cannot encode.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    _exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status; an error is reported on stderr."""
    try:
        _reject_undecodable(arguments)
        status = worker.main(arguments, prog_name="worker", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - no user must ever see a traceback
        return report(error)
    return status if isinstance(status, int) else 0


def _exit(status: int) -> NoReturn:
    """Exit without interpreter teardown, which takes longer than most calls.

    At this point the command has ended its tasks and threads and closed its files. A profiler that
    reports when the interpreter exits must call `run` instead.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it was closed before this process started
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)  # the interpreter flushes again, and reports the error
    os._exit(status)


def _open_standard_descriptors() -> None:
    """Open /dev/null in place of closed descriptors 0 to 2, so that no socket gets one of these numbers.

    It is opened for reading, so that writing to a closed stdout still fails.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _reject_undecodable(arguments: Sequence[str]) -> None:
    """Reject arguments that are not valid text in the locale's encoding: the wire carries Unicode."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= char <= "\udfff" for char in argument):
            raise click.UsageError(
                f"argument {os.fsencode(argument)!r} is not valid {sys.getfilesystemencoding()}"
            )


if __name__ == "__main__":
    main()
