"""Limits for all jobs of a server: the default of a job that sets none, and the maximum.

In the file they are the tables ``[limits.default]`` and ``[limits.maximum]``, whose keys are the
names of the options of ``worker start``; each is also an option and a variable, such as
``--default-memory`` and ``WORKER_MAX_MEMORY``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from ...core.errors import InvalidJobSpec
from ...core.model.limits import LimitBounds, ResourceLimits
from ..terminal.console import Failure
from .limit_words import in_settings
from .limits import LIMITS, resource_limits
from .parameters import server_option

Command = TypeVar("Command", bound=Callable[..., object])

_TABLES = {"default": "default", "maximum": "max"}
"""The tables, and the prefixes of their options."""

_SWAP = "memory.swap_max"

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
        chosen = _limits_among(options, _TABLES["maximum"])
        maximum = in_file.maximum.updated(chosen)
        unlimited = _SWAP in (*in_file.maximum.unlimited, *chosen.unlimited)
        bounds = LimitBounds(
            default=in_file.default.updated(_limits_among(options, _TABLES["default"])),
            maximum=maximum if unlimited else _with_swap_bounded(maximum),
        )
        bounds.apply(ResourceLimits())
    except InvalidJobSpec as error:
        raise Failure(f"default and maximum limits: {in_settings(str(error))}") from None
    return bounds


def read_limits(tables: object) -> LimitBounds:
    """Return the limits in the tables of a file; raise ValueError, naming table and key."""
    if not isinstance(tables, dict) or tables.keys() - _TABLES.keys():
        raise ValueError(f"write [limits.{'] and [limits.'.join(_TABLES)}]")
    return LimitBounds(**{name: _read_table(name, table) for name, table in tables.items()})


def read_rule_limits(tables: object) -> LimitBounds:
    """Return the limits of a rule of the policy as they apply; raise ValueError as ``read_limits``."""
    bounds = read_limits(tables)
    return replace(bounds, maximum=_with_swap_bounded(bounds.maximum))


def _with_swap_bounded(maximum: ResourceLimits) -> ResourceLimits:
    """Return maxima by which a job cannot use more in total than the maximum of memory.

    Without a maximum of swap the job gets no swap; that may be ``unlimited``.
    """
    memory = maximum.memory
    if memory.max is None or memory.swap_max is not None or _SWAP in maximum.unlimited:
        return maximum
    return replace(maximum, memory=replace(memory, swap_max=0))


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
        raise ValueError(f"{name}: {in_settings(str(error))}") from None
