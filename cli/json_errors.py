"""Whether a command line asks for JSON: then its errors are JSON too, also one about the command line.

With `-o json` an error is an object on stderr, on a line of its own; the exit status is the same:

    {"error":{"code":"NOT_FOUND","message":"No job named build; `worker list` prints all jobs"}}

Stdout is empty then. Of several jobs, stdout has those for which the command has succeeded, and stderr
one line for each of the others. Notes, which are no errors, are other lines on stderr: they begin with
`worker:`.
The message is for people, and may change. The code is one of gRPC, and each has one kind of cause:

    INVALID_ARGUMENT     the command line is wrong, or a value that no job can have, or an ambiguous id
    NOT_FOUND            there is no such job, certificate or file, or the policy hides the job
    ALREADY_EXISTS       the request id was used for another command
    FAILED_PRECONDITION  the job is not in a state for this, the machine cannot do it, or a setting, key,
                         context or file here cannot be used
    PERMISSION_DENIED    roles or policy do not allow it, or a file here cannot be opened
    UNAUTHENTICATED      the server does not accept the certificate any more
    RESOURCE_EXHAUSTED   a bound of the server is reached; a later attempt may succeed
    OUT_OF_RANGE         the output from there on is not kept
    DEADLINE_EXCEEDED    a stop has not completed in time
    UNAVAILABLE          the server cannot be reached, rejects the certificate in the handshake, or
                         shuts down
    DATA_LOSS            the record of the job is damaged
    ABORTED, UNIMPLEMENTED, UNKNOWN    the server has ended the call with this code
    CANCELLED            the command was interrupted
    INTERNAL             a defect of worker
"""

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
        except (click.UsageError, Failure, ImportError):  # none of this name, or it cannot be loaded
            found, rest = None, rest[1:]
        command = found or _UNKNOWN
        form, rest = _parsed(command, rest)
    return form in _FORMATS


def _parsed(command: click.Command, arguments: list[str]) -> tuple[object, list[str]]:
    """Return the format that is asked for, and what follows the options; invalid options are skipped."""
    context = click.Context(
        command, resilient_parsing=True, ignore_unknown_options=True, **command.context_settings
    )
    options, rest, _ = command.make_parser(context).parse_args(list(arguments))
    return options.get("form"), rest
