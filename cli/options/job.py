"""The arguments that name existing jobs: JOB, JOB... and --label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .parameters import LABEL

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Labels:
    """Which labels jobs must have, and which they must not have."""

    required: Mapping[str, str]
    excluded: Mapping[str, str]

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return bool(self.required or self.excluded)


@dataclass(frozen=True, slots=True)
class ChosenJobs:
    """Jobs by ids, names and the like, or those with certain labels."""

    references: Sequence[str]
    labels: Labels

    @property
    def single(self) -> bool:
        """Whether exactly one job is named."""
        return len(self.references) == 1


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    from ..completion import jobs_beginning_with  # noqa: PLC0415 - only completion needs it

    # After JOB..., click does not know whether the next argument is meant, such as a signal.
    arguments = [each for each in context.command.params if isinstance(each, click.Argument)]
    next_ones = arguments[arguments.index(parameter) + 1 :] if parameter in arguments else []
    others = [item for each in next_ones for item in each.type.shell_complete(context, each, incomplete)]
    return [*others, *jobs_beginning_with(incomplete, context)]


job_argument = click.argument("job", metavar="JOB", shell_complete=_complete)


def label_option(help_text: str) -> Callable[[Command], Command]:
    """Return a decorator that adds -l to a command, which receives Labels as ``labels``."""
    return click.option(
        "-l",
        "--label",
        "labels",
        type=LABEL,
        multiple=True,
        callback=lambda _ctx, _param, value: _labels(value),
        help=help_text,
    )


def jobs_argument(command: Callable[..., object]) -> Callable[..., object]:
    """Add JOB... and --label to a command, which receives them as ``chosen``."""

    @click.argument("references", metavar="JOB...", nargs=-1, shell_complete=_complete)
    @label_option("All jobs with this label, NAME=VALUE or NAME!=VALUE, in place of JOB; may be repeated.")
    @wraps(command)
    def with_chosen(references: Sequence[str], labels: Labels, **options: Any) -> object:
        if bool(references) == labels.given:
            both = "use JOB or --label, not both"
            raise click.UsageError(both if references else "name a job, or use --label")
        return command(chosen=ChosenJobs(references, labels), **options)

    return with_chosen


def _labels(terms: Sequence[tuple[str, str, bool]]) -> Labels:
    return Labels(
        {name: value for name, value, required in terms if required},
        {name: value for name, value, required in terms if not required},
    )
