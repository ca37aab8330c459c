"""The bounds on limits of the server and of a rule of the policy together."""

from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, TypeVar

from ..errors import InvalidJobSpec
from .limits import CpuLimit, IoLimit, LimitBounds, MemoryLimit, ResourceLimits, parse_cpus

_Part = TypeVar("_Part", CpuLimit, MemoryLimit, IoLimit)

_Number = TypeVar("_Number", int, float)

_NO_BOUNDS = LimitBounds()


@lru_cache(maxsize=256)
def combined(server: LimitBounds, rule: LimitBounds) -> LimitBounds:
    """Return the bounds of a job: the defaults of the rule first, and the lower of both maxima.

    A default is never above the maximum. Raises InvalidJobSpec if both allow no common CPU.
    """
    if rule == _NO_BOUNDS:
        return server
    maximum = _lower(server.maximum, rule.maximum)
    default = server.default.updated(rule.default)
    return LimitBounds(_capped(default, maximum), maximum)


def _lower(one: ResourceLimits, other: ResourceLimits) -> ResourceLimits:
    """Return the lower of two values for each limit; if only one is set, that one."""
    of_other = {part.device: part for part in other.io}
    io = [_lower_part(part, of_other.pop(part.device, IoLimit(part.device))) for part in one.io]
    return ResourceLimits(
        cpu=_lower_part(one.cpu, other.cpu),
        memory=_lower_part(one.memory, other.memory),
        io=(*io, *of_other.values()),
        pids=_lowest(one.pids, other.pids),
        cpuset=_common(one.cpuset, other.cpuset),
    )


def _capped(default: ResourceLimits, maximum: ResourceLimits) -> ResourceLimits:
    """Return the defaults, none of them above its maximum."""
    low = _lower(default, maximum)
    devices = {part.device: part for part in default.io}
    return ResourceLimits(
        cpu=_only_set(low.cpu, default.cpu),
        memory=_only_set(low.memory, default.memory),
        io=tuple(_only_set(part, devices[part.device]) for part in low.io if part.device in devices),
        pids=None if default.pids is None else low.pids,
        cpuset=None if default.cpuset is None else low.cpuset,
    )


def _lower_part(one: _Part, other: _Part) -> _Part:
    values: dict[str, Any] = {
        each.name: _lowest(getattr(one, each.name), getattr(other, each.name))
        for each in fields(one)
        if each.name not in {"device", "unlimited"}
    }
    return replace(one, **values)


def _only_set(part: _Part, default: _Part) -> _Part:
    """Return a part without the values that the default does not have."""
    unset: dict[str, Any] = {
        each.name: None for each in fields(default) if getattr(default, each.name) is None
    }
    return replace(part, **unset)


def _lowest(one: _Number | None, other: _Number | None) -> _Number | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _common(one: str | None, other: str | None) -> str | None:
    if one is None or other is None or one == other:
        return one if other is None else other
    common = parse_cpus(one) & parse_cpus(other)
    if not common:
        raise InvalidJobSpec("limits.cpuset", f"no CPU is both in {one} and in {other}, the maxima")
    return ",".join(map(str, sorted(common)))
