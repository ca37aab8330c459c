"""The pages of settings, environment variables and exit statuses."""

from collections.abc import Iterator

import click

from worker.cli import exit_status
from worker.cli.main import COMMANDS
from worker.cli.options.limits import LIMITS


def facts_pages() -> dict[str, str]:
    """Return the pages."""
    return {
        "settings.md": _settings(),
        "environment.md": _environment(),
        "exit-status.md": _exit_statuses(),
    }


def _settings() -> str:
    """Return the settings of the server, from the options of `worker serve`."""
    rows = []
    for option in _options("serve"):
        variable = _variable(option)
        if not variable or option.name == "config":
            continue
        rows.append(f"| `{_key(str(option.name))}` | `{option.opts[0]}` | `{variable}` | {_help(option)} |")
    return "\n".join(
        [
            "# Settings of the server",
            "",
            "Each setting is a key of the TOML file that `worker serve --config` names, an option of",
            "`worker serve` and `worker up`, and a variable. The option has precedence, then the variable,",
            "then the file.",
            "",
            "| key | option | variable | meaning |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _key(name: str) -> str:
    """Return the key of the file: limits are in tables of their own."""
    for table, prefix in (("default", "default_"), ("maximum", "max_")):
        limit = name.removeprefix(prefix)
        if limit != name and limit in _limit_names():
            return f"[limits.{table}] {limit}"
    return name


def _limit_names() -> set[str]:
    return {limit.name for limit in LIMITS}


def _environment() -> str:
    """Return the variables of the commands for clients; those of the server are settings."""
    found: dict[str, tuple[str, set[str]]] = {
        "WORKER_HOME": (
            (
                "The directory of keys, state and address. Default: `/var/lib/worker` for root, otherwise "
                "`$XDG_STATE_HOME/worker` or `~/.local/state/worker`."
            ),
            {"all"},
        )
    }
    for command in COMMANDS:
        if command.name in {"serve", "up"}:
            continue
        for option in _options(str(command.name)):
            if variable := _variable(option):
                found.setdefault(variable, (_help(option), set()))[1].add(str(command.name))
    rows = [
        f"| `{name}` | {text} | {_many(commands)} |" for name, (text, commands) in sorted(found.items())
    ]
    return "\n".join(
        [
            "# Environment variables",
            "",
            "Variables that the commands read; an option has precedence. Each",
            "[setting of the server](settings.md) is a variable too.",
            "[job-environment.md](job-environment.md) has the variables that a job gets.",
            "",
            "| variable | meaning | commands |",
            "|---|---|---|",
            *rows,
        ]
    )


def _many(commands: set[str]) -> str:
    """Return the names of commands, or "all clients" for an option that most have."""
    return "commands that call a server" if len(commands) > 5 else ", ".join(sorted(commands))


def _exit_statuses() -> str:
    rows = [
        (0, "The command has done what it was asked to do."),
        (0, "`worker wait`: the jobs have finished, whatever their exit codes are, which it prints."),
        (1, "The server refused or could not be reached, or a check of `worker doctor` failed."),
        (2, "The command line is wrong. Of `worker run`: 125."),
        (
            exit_status.RUN_FAILED,
            "`worker run`: worker itself failed, the command line is wrong, or the job is lost.",
        ),
        (126, "`worker run`: the command was found but cannot be executed."),
        (127, "`worker run`: the command was not found."),
        ("128 + N", "`worker run`: signal N ended the job."),
        (exit_status.INTERRUPTED, "Interrupted by Ctrl-C (SIGINT)."),
        (exit_status.PIPE_CLOSED, "The reader of stdout has closed it (SIGPIPE)."),
        ("other", "`worker run`: the exit code of the job."),
    ]
    return "\n".join(
        [
            "# Exit statuses",
            "",
            "| status | meaning |",
            "|---|---|",
            *(f"| {code} | {text} |" for code, text in rows),
        ]
    )


def _options(command: str) -> Iterator[click.Option]:
    """Yield the options of a command, and of the commands of a group."""
    (found,) = [each.load() for each in COMMANDS if each.name == command]
    commands = [found, *(found.commands.values() if isinstance(found, click.Group) else ())]
    for each in commands:
        yield from (parameter for parameter in each.params if isinstance(parameter, click.Option))


def _variable(option: click.Option) -> str:
    """Return the name of the variable that has the value of an option."""
    return option.envvar if isinstance(option.envvar, str) else ""


def _help(option: click.Option) -> str:
    return " ".join((option.help or "").split()).replace("|", "\\|").replace("<", "\\<")
