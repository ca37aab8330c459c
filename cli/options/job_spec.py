"""The options of `start` and `run`: the job spec, and the request id.

To add a job option, add a line to _OPTIONS; its parameter has the name of its field in JobSpec.
"""

import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ...core.errors import InvalidJobSpec
from ...core.model.job import DEFAULT_GRACE, DEFAULT_LINGER, JobSpec, Leftovers
from ..terminal.console import Failure, printable
from ..terminal.local_terminal import local_size
from .limit_words import in_options
from .limits import LIMITS, limit_options, resource_limits
from .parameters import DURATION, ENV_FILE, OUTPUT_MAX, PAIR, SECRET, SIZE, ULIMIT, VARIABLE

Command = TypeVar("Command", bound=Callable[..., object])

COMMON_OPTIONS = frozenset(
    [
        "stdin",
        "terminal",
        "name",
        "env",
        "env_file",
        "secrets",
        "working_directory",
        "user",
        "labels",
        "timeout",
        "remove",
        "cpu",
        "memory",
        "pids",
    ]
)
"""The parameters that most jobs need: `--help` shows these, `--help-all` shows all."""

SECTIONS = {"Limits": frozenset(limit.name for limit in LIMITS)}

JOB_COMMAND = {"allow_interspersed_args": False}
"""Context settings of a command with these options: everything from CMD on belongs to the job."""


def _converted(convert: Callable[[Any], object]) -> Callable[..., object]:
    """Return a callback of click that passes the value of an option through ``convert``."""
    return lambda _ctx, _param, value: convert(value)


def _separate(context: click.Context, parameter: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's signature
    """Return whether stdout and stderr are separate: by default not of a job with a terminal."""
    given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    return value and (given or context.params.get("terminal") is None)


_OPTIONS = (
    click.option(
        "-i",
        "--interactive",
        "stdin",
        is_flag=True,
        help="Let the job read stdin: what this command gets.",
    ),
    click.option(
        "-t",
        "--tty",
        "terminal",
        is_flag=True,
        callback=_converted(lambda wanted: local_size() if wanted else None),
        help="Give the job a terminal; with -i, what is typed in this one is typed there.",
    ),
    click.option("--name", default="", help="Name the job, so that commands find it by this name."),
    click.option(
        "-e",
        "--env",
        type=VARIABLE,
        multiple=True,
        callback=_converted(dict),
        help="Set a variable of the job's environment; without a value, to the value that it has here.",
    ),
    click.option(
        "--env-file",
        type=ENV_FILE,
        multiple=True,
        callback=_converted(lambda files: dict(ChainMap(*reversed(files)))),
        help="Set the variables in a file: NAME=VALUE or NAME on each line.",
    ),
    click.option(
        "-w",
        "--workdir",
        "--cwd",
        "working_directory",
        metavar="DIR",
        default="/",
        show_default=True,
        help="Working directory.",
    ),
    click.option(
        "-u",
        "--user",
        metavar="USER[:GROUP]",
        help="Run as this user, by name or number, and in this group instead of the user's own groups.",
    ),
    click.option("--timeout", type=DURATION, help="Stop the job after this time, such as 90s or 1h30m."),
    click.option(
        "--grace",
        type=DURATION,
        default=DEFAULT_GRACE,
        help="Time between SIGTERM and SIGKILL when the job is stopped.  [default: 10s]",
    ),
    click.option(
        "--signal-all",
        is_flag=True,
        help="A stop signals every process at once, not the main process first.",
    ),
    click.option(
        "-l",
        "--label",
        "labels",
        type=PAIR,
        multiple=True,
        callback=_converted(dict),
        help="Add a label to the job, for `worker list --label`.",
    ),
    click.option(
        "--leftovers",
        type=click.Choice([each.value for each in Leftovers]),
        callback=_converted(Leftovers),
        default=Leftovers.KILL.value,
        show_default=True,
        help="Kill the processes that outlive the main process, or wait for them.",
    ),
    click.option(
        "--linger",
        type=DURATION,
        default=DEFAULT_LINGER,
        help="Time that these have to end by themselves before SIGTERM.  [default: 1s]",
    ),
    click.option(
        "--split-output/--no-split-output",
        callback=_separate,
        default=False,
        show_default=True,
        help="Store stdout and stderr separately, or as one output in the order of writing.",
    ),
    click.option(
        "--output-max",
        type=OUTPUT_MAX,
        help=(
            "Keep at most this much output, such as 10M, discarding the oldest, or all.  "
            "[default: as set on the server, 1G]"
        ),
    ),
    click.option(
        "--ulimit",
        "ulimits",
        type=ULIMIT,
        multiple=True,
        help="Limit each process of the job, such as nofile=4096:8192, core=0 or nproc=unlimited.",
    ),
    click.option(
        "--new-privs",
        "new_privileges",
        is_flag=True,
        help="Let sudo and other set-user-ID programs work although --user changed the user.",
    ),
    click.option(
        "--pipe-size",
        type=SIZE,
        help="Output that may wait to be recorded before the job blocks.  [default: 64K]",
    ),
)
_REQUEST_ID = click.option(
    "--request-id",
    metavar="ID",
    default="",
    help="Return the existing job if this id was already used.  [default: a new id]",
)
_SECRETS = click.option(
    "--secret",
    "secrets",
    type=SECRET,
    multiple=True,
    callback=_converted(dict),
    help="Give the job the contents of a file as $CREDENTIALS_DIRECTORY/NAME, in memory.",
)
_ARGS = click.argument("args", metavar="[ARG]...", type=click.UNPROCESSED, nargs=-1)


def job_options(command: Command, *, required: bool = True) -> Command:
    """Add to a command the options of a job, CMD and ARG, for `job_spec`; ``request_id``; ``secrets``.

    ``required``: CMD must be given.
    """
    name = click.argument(
        "command", metavar="CMD" if required else "[CMD]", type=click.UNPROCESSED, required=required
    )
    for add in (_ARGS, name, limit_options, _REQUEST_ID, _SECRETS, *reversed(_OPTIONS)):
        command = add(command)
    return command


@contextmanager
def invalid_specs_rejected() -> Iterator[None]:
    """Report an InvalidJobSpec with the code of the server, which applies the same rules."""
    try:
        yield
    except InvalidJobSpec as error:
        raise Failure(printable(in_options(str(error))), code="INVALID_ARGUMENT") from None


def job_spec(options: Mapping[str, Any]) -> JobSpec:
    """Return the job spec that these options describe; raise Failure if it is invalid."""
    limits = {limit.name for limit in LIMITS}
    with invalid_specs_rejected():
        return JobSpec(
            **{name: value for name, value in options.items() if name not in limits | {"env", "env_file"}},
            limits=resource_limits(options),
            env=(_terminal_type() if options["terminal"] else {}) | options["env_file"] | options["env"],
        )


def _terminal_type() -> dict[str, str]:
    """Return the variable by which programs know what the local terminal understands."""
    return {"TERM": os.environ.get("TERM") or "xterm"}
