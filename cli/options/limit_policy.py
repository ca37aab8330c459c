"""Limits for all jobs of a server: what a job gets that asks for none, and the most that it may ask for.

In the file they are the tables ``[limits.default]`` and ``[limits.maximum]``, with the names of
the options of ``worker start``; each is an option and a variable too, as ``--default-memory``
and ``WORKER_MAX_MEMORY``.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from ...core.errors import InvalidJobSpec
from ...core.model.limits import LimitPolicy, ResourceLimits
from ..terminal.console import Failure
from .limits import LIMITS, Limits, resource_limits
from .parameters import server_option

Command = TypeVar("Command", bound=Callable[..., object])

_TABLES = {"default": "default", "maximum": "max"}
"""The tables and what their options begin with."""

_MEANING = {"default": "for jobs that set none", "maximum": "the most that a job can have"}


def policy_options(command: Command) -> Command:
    """Give a command an option per limit and table."""
    for table, prefix in reversed(_TABLES.items()):
        for limit in reversed(LIMITS):
            add = server_option(
                f"{prefix}_{limit.name}",
                limit.kind,
                f"As {limit.option} of `worker start`: {_MEANING[table]}.",
                multiple=limit.per_device,
            )
            command = add(command)
    return command


def chosen_policy(options: Mapping[str, object], in_file: LimitPolicy) -> LimitPolicy:
    """Return the limits of the file with those replaced that are options.

    Raises Failure if one cannot be, or if the default is above the maximum.
    """
    try:
        policy = LimitPolicy(
            default=in_file.default.updated(_limits_among(options, _TABLES["default"])),
            maximum=in_file.maximum.updated(_limits_among(options, _TABLES["maximum"])),
        )
        policy.apply(ResourceLimits())
    except InvalidJobSpec as error:
        raise Failure(f"default and maximum limits: {error}") from None
    return policy


def read_policy(tables: object) -> LimitPolicy:
    """Return the limits in the tables of a file; raise ValueError, naming table and key."""
    if not isinstance(tables, dict) or tables.keys() - _TABLES.keys():
        raise ValueError(f"write [limits.{'] and [limits.'.join(_TABLES)}]")
    return LimitPolicy(**{name: _read_table(name, table) for name, table in tables.items()})


def _limits_among(options: Mapping[str, object], prefix: str) -> ResourceLimits:
    given = {limit.name: options.get(f"{prefix}_{limit.name}") for limit in LIMITS}
    return resource_limits(Limits(**given))  # type: ignore[typeddict-item]  # each was parsed by its own kind


def _read_table(name: str, table: object) -> ResourceLimits:
    if not isinstance(table, dict):
        raise ValueError(f"{name}: write a table")  # noqa: TRY004 - one error for all that is wrong in a file
    known = {limit.name: limit for limit in LIMITS}
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"{name}: unknown limit {key!r}; there are {', '.join(known)}")
        try:
            values[key] = known[key].read(value)
        except ValueError as error:
            raise ValueError(f"{name}.{key}: {error}") from None
    try:
        return resource_limits(Limits(**values))  # type: ignore[typeddict-item]  # likewise
    except InvalidJobSpec as error:
        raise ValueError(f"{name}: {error}") from None
