"""Whether a command line asks for JSON: then its errors are JSON too, also one about the command line."""

from collections.abc import Sequence

import click

from .terminal.console import Failure

_FORMATS = frozenset({"json", "jsonl"})
_UNKNOWN = click.Command("unknown", params=[click.Option(["-o", "--output", "form"])])


def asks_for_json(root: click.Group, arguments: Sequence[str]) -> bool:
    """Return whether these arguments have `-o json` or `-o jsonl`, as far as they can be understood."""
    command: click.Command = root
    form, rest = _parsed(command, list(arguments))
    while isinstance(command, click.Group) and rest:
        try:
            _, found, rest = command.resolve_command(click.Context(command), rest)
        except (click.UsageError, Failure):  # there is none of this name, or it is not installed
            found, rest = None, rest[1:]
        command = found or _UNKNOWN
        form, rest = _parsed(command, rest)
    return form in _FORMATS


def _parsed(command: click.Command, arguments: list[str]) -> tuple[object, list[str]]:
    """Return the format that is asked for, and what follows the options; what is wrong is skipped."""
    context = click.Context(
        command, resilient_parsing=True, ignore_unknown_options=True, **command.context_settings
    )
    options, rest, _ = command.make_parser(context).parse_args(list(arguments))
    return options.get("form"), rest
