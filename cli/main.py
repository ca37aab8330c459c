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

    ``module`` and ``function`` name the command; by default they are NAME.
    """

    def __init__(
        self, name: str, summary: str, *, module: str = "", function: str = "", hidden: bool = False
    ) -> None:
        super().__init__(name, help=summary, hidden=hidden)
        self._module = module or name
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
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from .unknown_commands import instead_of  # noqa: PLC0415 - needed only for the error

            ctx.fail(f"there is no `worker {args[0]}`: {instead_of(args[0], self.commands)}")
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their groups."""
        shown = set(self.list_commands(ctx))
        for title, commands in GROUPS.items():
            rows = [(str(each.name), each.help or "") for each in commands if each.name in shown]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write how to see more: click fills paragraphs, which these lines are not."""
        formatter.write("\n")
        for line in _MORE:
            formatter.write(f"{line}\n")


_MORE = (
    "Also, as in docker: ps, logs, kill, rm, inspect. `worker version` prints versions.",
    "`worker COMMAND --help` has examples; `man worker-start` and the like describe every option.",
    'Completion of commands, options and jobs: eval "$(_WORKER_COMPLETE=bash_source worker)"',
)
GROUPS = {
    "Jobs": (
        LazyCommand("run", "Run a command as a job and exit with its exit code."),
        LazyCommand("start", "Start a command as a job."),
        LazyCommand("stream", "Print a job's output from its first byte until it ends."),
        LazyCommand("attach", "Print a running job's output from now on, and pass stdin on to it."),
        LazyCommand("list", "Print all jobs, the newest ones first.", function="list_jobs"),
        LazyCommand("query", "Print the status of jobs."),
        LazyCommand("wait", "Wait until jobs have finished and print their exit codes."),
        LazyCommand("stop", "Stop jobs and all of their processes."),
        LazyCommand("signal", "Send a signal to jobs."),
        LazyCommand("pause", "Freeze all processes of jobs."),
        LazyCommand("resume", "Let the processes of paused jobs continue."),
        LazyCommand("update", "Change the limits of a running job."),
        LazyCommand("remove", "Remove finished jobs and their output."),
    ),
    "Servers": (
        LazyCommand("up", "Start a server of your own in the background."),
        LazyCommand("down", "Stop the server; jobs keep running."),
        LazyCommand("serve", "Run the server in the foreground."),
        LazyCommand("doctor", "Check what this machine supports and what is missing."),
        LazyCommand("debug", "Show what a job waits for, and its state, processes and files."),
    ),
    "Access": (
        LazyCommand("ping", "Connect to the server, and print how long that takes."),
        LazyCommand("whoami", "Print who you are to the server, and what you may do."),
        LazyCommand("invite", "Give a user on another machine a certificate."),
        LazyCommand("join", "Accept an invitation to a server on another machine."),
        LazyCommand("context", "Keep servers by name, with the keys for them."),
        LazyCommand("certs", "Create keys and certificates for servers and clients."),
        LazyCommand("policy", "Check a policy, and explain what it allows."),
    ),
}

HIDDEN = (
    *(
        LazyCommand(name, summary, module="docker_words", hidden=True)
        for name, summary in {
            "ps": "Print running jobs, as docker ps; `worker list` prints all jobs.",
            "logs": "Print a job's output up to now, as docker logs; `worker stream` follows it.",
            "kill": "Send a signal to the main process of jobs; `worker stop` ends all processes.",
            "rm": "Remove finished jobs and their output, as docker rm.",
            "inspect": "Print all facts about jobs as a JSON list, as docker inspect.",
        }.items()
    ),
    LazyCommand("version", "Print the versions of this command and of the server.", hidden=True),
)
"""Commands that mean what they mean in docker and kubectl; they are not listed."""

COMMANDS = (*(command for commands in GROUPS.values() for command in commands), *HIDDEN)


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
        from .json_errors import asks_for_json  # noqa: PLC0415 - needed only for an error

        return report(error, as_json=asks_for_json(worker, arguments))
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
    if sys.stdout is None:  # it was closed before this process started: what is printed must not vanish
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process


def _reject_undecodable(arguments: Sequence[str]) -> None:
    """Reject arguments that are not valid text in the locale's encoding: the wire carries Unicode."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= char <= "\udfff" for char in argument):
            raise click.UsageError(
                f"argument {os.fsencode(argument)!r} is not valid {sys.getfilesystemencoding()}"
            )


if __name__ == "__main__":
    main()
