"""Limits for all jobs of a server: the default of a job that sets none, and the maximum.

In the file they are the tables ``[limits.default]`` and ``[limits.maximum]``, whose keys are the
names of the options of ``worker start``; each is also an option and a variable, such as
``--default-memory`` and ``WORKER_MAX_MEMORY``.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from ...core.errors import InvalidJobSpec
from ...core.model.limits import LimitBounds, ResourceLimits
from ..terminal.console import Failure
from .limits import LIMITS, resource_limits
from .parameters import server_option

Command = TypeVar("Command", bound=Callable[..., object])

_TABLES = {"default": "default", "maximum": "max"}
"""The tables, and the prefixes of their options."""

_HELP = {"default": "Default of {} for jobs that do not set it.", "maximum": "Maximum of {} for a job."}


def limit_bound_options(command: Command) -> Command:
    """Add an option for each limit and table to a command."""
    for table, prefix in reversed(_TABLES.items()):
        for limit in reversed(LIMITS):
            add = server_option(
                f"{prefix}_{limit.name}",
                limit.parameter,
                _HELP[table].format(limit.option),
                multiple=limit.per_device,
            )
            command = add(command)
    return command


def chosen_limits(options: Mapping[str, object], in_file: LimitBounds) -> LimitBounds:
    """Return the limits of the file, replaced by those that are set by options.

    Raises Failure if one is out of range, or if the default is above the maximum.
    """
    try:
        bounds = LimitBounds(
            default=in_file.default.updated(_limits_among(options, _TABLES["default"])),
            maximum=in_file.maximum.updated(_limits_among(options, _TABLES["maximum"])),
        )
        bounds.apply(ResourceLimits())
    except InvalidJobSpec as error:
        raise Failure(f"default and maximum limits: {error}") from None
    return bounds


def read_limits(tables: object) -> LimitBounds:
    """Return the limits in the tables of a file; raise ValueError, naming table and key."""
    if not isinstance(tables, dict) or tables.keys() - _TABLES.keys():
        raise ValueError(f"write [limits.{'] and [limits.'.join(_TABLES)}]")
    return LimitBounds(**{name: _read_table(name, table) for name, table in tables.items()})


def _limits_among(options: Mapping[str, object], prefix: str) -> ResourceLimits:
    return resource_limits({limit.name: options.get(f"{prefix}_{limit.name}") for limit in LIMITS})


def _read_table(name: str, table: object) -> ResourceLimits:
    if not isinstance(table, dict):
        raise ValueError(f"{name}: write a table")  # noqa: TRY004 - one error for everything in a file
    known = {limit.name: limit for limit in LIMITS}
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"{name}: unknown limit {key!r}; valid: {', '.join(known)}")
        try:
            values[key] = known[key].read(value)
        except ValueError as error:
            raise ValueError(f"{name}.{key}: {error}") from None
    try:
        return resource_limits(values)
    except InvalidJobSpec as error:
        raise ValueError(f"{name}: {error}") from None
