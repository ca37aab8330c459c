"""The options of `start` and `run`: a command and the world it runs in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click

from ...core.errors import InvalidJobSpec
from ...core.model.job import DEFAULT_GRACE, JobSpec, Leftovers
from ..terminal.console import Failure
from .limits import Limits, limit_options, resource_limits
from .parameters import DURATION, OUTPUT_MAX, PAIR

Command = TypeVar("Command", bound=Callable[..., object])

JOB_COMMAND = {"allow_interspersed_args": False}
"""Context settings of such a command: everything from CMD on belongs to the job."""

_OPTIONS = (
    click.option("--env", type=PAIR, multiple=True, help="Add a variable to the job's environment."),
    click.option("--cwd", metavar="DIR", default="/", show_default=True, help="Working directory."),
    click.option("--user", metavar="NAME", help="Run as this user, by name or number."),
    click.option("--timeout", type=DURATION, help="Stop the job after so long, as 90s or 1h30m."),
    click.option(
        "--grace",
        type=DURATION,
        default=DEFAULT_GRACE,
        help="From SIGTERM to SIGKILL when stopped.  [default: 10s]",
    ),
    click.option("--label", type=PAIR, multiple=True, help="Mark the job, for `worker list --label`."),
    click.option(
        "--leftovers",
        type=click.Choice([each.value for each in Leftovers]),
        default=Leftovers.KILL.value,
        show_default=True,
        help="What becomes of processes that outlive the main one.",
    ),
    click.option("--split-output", is_flag=True, help="Keep stdout and stderr apart."),
    click.option(
        "--output-max",
        type=OUTPUT_MAX,
        help="Keep so much output at most, the latest, as 10M; 0: all.  [default: as the server has it]",
    ),
    click.option(
        "--request-id",
        metavar="ID",
        help="Start nothing if a job was started with this id: that job is meant.  [default: a new one]",
    ),
)
_ARGUMENTS = (
    click.argument("command", metavar="CMD", type=click.UNPROCESSED),
    click.argument("args", metavar="[ARG]...", type=click.UNPROCESSED, nargs=-1),
)


class JobOptions(Limits):
    """What click makes of them."""

    env: Sequence[tuple[str, str]]
    cwd: str
    user: str | None
    timeout: float | None
    grace: float
    label: Sequence[tuple[str, str]]
    leftovers: str
    split_output: bool
    output_max: int | None
    request_id: str | None
    command: str
    args: Sequence[str]


def job_options(command: Command) -> Command:
    """Give a command the options of a job, and CMD and ARG."""
    for add in (*reversed(_ARGUMENTS), limit_options, *reversed(_OPTIONS)):
        command = add(command)
    return command


@contextmanager
def refusals() -> Iterator[None]:
    """Tell what the core refuses as the server would, which judges by the same rules."""
    try:
        yield
    except InvalidJobSpec as error:
        raise Failure(f"rpc error: code = InvalidArgument desc = {error}") from None


def job_spec(options: JobOptions) -> JobSpec:
    """Return what was asked for; raise Failure if no job can be like that."""
    with refusals():
        return JobSpec(
            command=options["command"],
            args=options["args"],
            env=dict(options["env"]),
            working_directory=options["cwd"],
            user=options["user"],
            limits=resource_limits(options),
            labels=dict(options["label"]),
            timeout=options["timeout"],
            grace=options["grace"],
            leftovers=Leftovers(options["leftovers"]),
            split_output=options["split_output"],
            output_max=options["output_max"],
        )
