"""Resource limits and usage of a job, in the terms of cgroup v2.

https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, TypeVar

from ..errors import InvalidJobSpec

DEFAULT_WEIGHT = 100
"""Of a job without one: that of cpu.weight."""

_CPU_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)
_LONGEST_CPU_LIST = 4096  # characters; every kernel accepts this size in one write
_MOST_CPUS = 8192  # the largest NR_CPUS


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and not least <= value < 1 << 63:
        raise InvalidJobSpec(name, f"{value}; must be at least {least} and fit 63 bits")


def _check_unlimited(
    field_name: str, limits: "IoLimit | ResourceLimits", unlimited: Iterable[str], known: Collection[str]
) -> None:
    for name in unlimited:
        if name not in known:
            raise InvalidJobSpec(
                f"{field_name}.unlimited", f"unknown limit {name!r}; known are {', '.join(known)}"
            )
        if attrgetter(name)(limits) is not None:
            raise InvalidJobSpec(f"{field_name}.{name}", "is both set and unlimited")


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """``quota`` in cores (0.5 is half a core), ``weight`` 1 to 10000 under contention (default 100)."""

    quota: float | None = None
    weight: int | None = None

    def __post_init__(self) -> None:
        if self.quota is not None and not 0.01 <= self.quota <= 65536:
            # The kernel's shortest quota is 1 ms (min_cfs_quota_period) in our period of 100 ms.
            raise InvalidJobSpec("limits.cpu.quota", f"{self.quota} cores; must be 0.01 to 65536")
        if self.weight is not None and not 1 <= self.weight <= 10000:
            raise InvalidJobSpec("limits.cpu.weight", f"{self.weight}; must be 1 to 10000")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """In bytes: ``max`` triggers the OOM killer, ``high`` throttles, ``swap_max`` limits swap."""

    max: int | None = None
    high: int | None = None
    swap_max: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("max", 1), ("high", 1), ("swap_max", 0)):
            _check_count(f"limits.memory.{name}", getattr(self, name), least)


IO_RATES = (
    "read_bytes_per_second",
    "write_bytes_per_second",
    "read_operations_per_second",
    "write_operations_per_second",
)
"""The limits in an IoLimit."""


@dataclass(frozen=True, slots=True)
class IoLimit:
    """Rates of one block device, given as /dev/x, MAJ:MIN or a path on its file system.

    ``unlimited`` names rates as in ``ResourceLimits``.
    """

    device: str
    read_bytes_per_second: int | None = None
    write_bytes_per_second: int | None = None
    read_operations_per_second: int | None = None
    write_operations_per_second: int | None = None
    unlimited: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.device:
            raise InvalidJobSpec("limits.io.device", "is empty; name a device, MAJ:MIN or a path")
        for name in IO_RATES:
            _check_count(f"limits.io.{name}", getattr(self, name), 1)
        _check_unlimited("limits.io", self, self.unlimited, IO_RATES)


LIMIT_NAMES = (
    *("cpu.quota", "cpu.weight"),
    *("memory.max", "memory.high", "memory.swap_max"),
    *("pids", "cpuset"),
)
"""The limits in ResourceLimits that are not those of a device."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """All limits of a job; None or empty: no limit.

    ``unlimited`` names those that a request removes, among LIMIT_NAMES: the default of the server at a
    start, the present limit at an update. Limits in effect have none.
    """

    cpu: CpuLimit = field(default_factory=CpuLimit)
    memory: MemoryLimit = field(default_factory=MemoryLimit)
    io: tuple[IoLimit, ...] = ()
    pids: int | None = None
    cpuset: str | None = None
    unlimited: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_count("limits.pids", self.pids, 1)
        _check_unlimited("limits", self, self.unlimited, LIMIT_NAMES)

    def updated(self, changes: "ResourceLimits") -> "ResourceLimits":
        """Return these limits, replaced where ``changes`` sets a value or none; io is merged by device."""
        if self == _NO_LIMITS and not (changes.io or changes.unlimited):
            return changes
        kept = self.without(changes.unlimited)
        return ResourceLimits(
            cpu=_filled(changes.cpu, kept.cpu),
            memory=_filled(changes.memory, kept.memory),
            io=_filled_devices(changes.io, self.io),
            pids=kept.pids if changes.pids is None else changes.pids,
            cpuset=kept.cpuset if changes.cpuset is None else changes.cpuset,
        )

    @property
    def removes_any(self) -> bool:
        """Whether a request with these limits removes any."""
        return bool(self.unlimited) or any(part.unlimited for part in self.io)

    def without(self, names: Collection[str]) -> "ResourceLimits":
        """Return these limits without those of some names."""
        if not names:
            return self

        def part(of: str) -> dict[str, None]:
            return {name.removeprefix(of): None for name in names if name.startswith(of)}

        return ResourceLimits(
            cpu=replace(self.cpu, **part("cpu.")),
            memory=replace(self.memory, **part("memory.")),
            io=self.io,
            pids=None if "pids" in names else self.pids,
            cpuset=None if "cpuset" in names else self.cpuset,
        )


_Part = TypeVar("_Part", CpuLimit, MemoryLimit, IoLimit)


_NAMES = {kind: tuple(each.name for each in fields(kind)) for kind in (CpuLimit, MemoryLimit, IoLimit)}


def _filled(part: _Part, otherwise: _Part) -> _Part:
    """Return ``part`` with its unset fields taken from ``otherwise``."""
    values = {
        name: value
        for name in _NAMES[type(part)]
        if getattr(part, name) is None and (value := getattr(otherwise, name)) is not None
    }
    return replace(part, **values) if values else part


def _filled_devices(parts: tuple[IoLimit, ...], otherwise: tuple[IoLimit, ...]) -> tuple[IoLimit, ...]:
    named = {part.device: part for part in parts}
    merged = [_with_rates(named.pop(part.device, IoLimit(part.device)), part) for part in otherwise]
    added = [replace(part, unlimited=()) for part in named.values()]
    return tuple(part for part in (*merged, *added) if part != IoLimit(part.device))


def _with_rates(part: IoLimit, otherwise: IoLimit) -> IoLimit:
    """Return ``part`` with what it neither sets nor removes taken from ``otherwise``."""
    removed: dict[str, Any] = dict.fromkeys(part.unlimited)
    return _filled(replace(part, unlimited=()), replace(otherwise, unlimited=(), **removed))


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """Bounds on limits: ``default`` applies where a job spec sets no limit, ``maximum`` bounds all."""

    default: ResourceLimits = field(default_factory=ResourceLimits)
    maximum: ResourceLimits = field(default_factory=ResourceLimits)

    def apply(self, requested: ResourceLimits) -> ResourceLimits:
        """Return the limits in effect; raise InvalidJobSpec, which names the field, above the maximum."""
        if self.default == self.maximum == _NO_LIMITS and not requested.removes_any:
            return requested
        limits = self.default.updated(requested)
        self._check(limits)
        self._check_removed(requested)
        # A weight is a share, not a bound: a job without one is not raised to the maximum.
        weight = limits.cpu.weight
        if weight is None and self.maximum.cpu.weight is not None:
            weight = min(DEFAULT_WEIGHT, self.maximum.cpu.weight)
        if weight != limits.cpu.weight:
            limits = replace(limits, cpu=replace(limits.cpu, weight=weight))
        return self.maximum.updated(limits)

    def apply_changes(self, current: ResourceLimits, changes: ResourceLimits) -> ResourceLimits:
        """Return the limits of a running job after an update.

        Only what is changed is checked: the server may have got lower maxima since the job began.
        """
        self._check(changes)
        self._check_removed(changes)
        known = [part.device for part in current.io]
        for part in changes.io:  # the same device by another name would keep its limit
            if part.unlimited and known and part.device not in known:
                raise InvalidJobSpec(
                    f"limits.io {part.device}", f"has no limit; the limits are those of {', '.join(known)}"
                )
        return current.updated(changes)

    def admits(self, requested: ResourceLimits) -> bool:
        """Whether no limit that is requested is above the maximum, or removed although it has one."""
        return requested == _NO_LIMITS or not any(self.excesses(requested, ""))

    def excesses(self, requested: ResourceLimits, whose: str) -> Iterator[InvalidJobSpec]:
        """Yield an error for each limit that is above the maximum, or removed although it has one.

        ``whose`` is the owner of the maximum in the error: "this server".
        """
        yield from self._above(requested, whose)
        yield from self._removed(requested, whose)

    def _check(self, limits: ResourceLimits) -> None:
        """Raise InvalidJobSpec for a value above the maximum."""
        for error in self._above(limits, _SERVER):
            raise error

    def _check_removed(self, changes: ResourceLimits) -> None:
        """Raise InvalidJobSpec for a limit that is to be removed although it has a maximum."""
        for error in self._removed(changes, _SERVER):
            raise error

    def _above(self, limits: ResourceLimits, whose: str) -> Iterator[InvalidJobSpec]:
        yield from _parts_above("limits.cpu", limits.cpu, self.maximum.cpu, whose)
        yield from _parts_above("limits.memory", limits.memory, self.maximum.memory, whose)
        most = {part.device: part for part in self.maximum.io}
        for part in limits.io:
            bound = most.get(part.device, IoLimit(part.device))
            yield from _parts_above(f"limits.io {part.device}", part, bound, whose)
        if self.maximum.pids is not None and limits.pids is not None and limits.pids > self.maximum.pids:
            yield _above("limits.pids", limits.pids, self.maximum.pids, whose)
        if limits.cpuset is not None and self.maximum.cpuset is not None:
            yield from _not_among(limits.cpuset, self.maximum.cpuset, whose)

    def _removed(self, changes: ResourceLimits, whose: str) -> Iterator[InvalidJobSpec]:
        if not changes.removes_any:
            return
        bounds = {f"limits.{name}": attrgetter(name)(self.maximum) for name in changes.unlimited}
        most = {part.device: part for part in self.maximum.io}
        for part in changes.io:
            bound = most.get(part.device, IoLimit(part.device))
            bounds |= {f"limits.io {part.device}.{name}": getattr(bound, name) for name in part.unlimited}
        for name, value in bounds.items():
            if name == "limits.cpu.weight" and value is not None and value >= DEFAULT_WEIGHT:
                continue
            if value is not None:
                yield _above(name, "unlimited", value, whose)


def _parts_above(name: str, part: _Part, most: _Part, whose: str) -> Iterator[InvalidJobSpec]:
    for each in _NAMES[type(part)]:
        bound = getattr(most, each)
        if bound is None:
            continue
        value = getattr(part, each)
        if isinstance(value, int | float) and value > bound:
            yield _above(f"{name}.{each}", value, bound, whose)


def _not_among(cpus: str, most: str, whose: str) -> Iterator[InvalidJobSpec]:
    if beyond := parse_cpus(cpus) - parse_cpus(most):
        yield InvalidJobSpec(
            "limits.cpuset", f"CPU {min(beyond)} is not among those that {whose} allows, {most}"
        )


def parse_cpus(text: str) -> frozenset[int]:
    """Parse a list of CPUs such as "0-2,4"; raise InvalidJobSpec for any other text."""
    if len(text) > _LONGEST_CPU_LIST:
        raise InvalidJobSpec(
            "limits.cpuset", f"{len(text)} characters; the kernel accepts {_LONGEST_CPU_LIST}"
        )
    found: list[int] = []
    for part in text.split(","):
        match = _CPU_RANGE.fullmatch(part.strip())
        first = int(match[1]) if match else 1
        last = int(match[2] or first) if match else 0
        if first > last:
            raise InvalidJobSpec(
                "limits.cpuset", f"{part!r} in {text!r} is neither a CPU nor a range; write 0-2,4"
            )
        if last >= _MOST_CPUS:
            raise InvalidJobSpec(
                "limits.cpuset", f"CPU {last} cannot exist; a kernel supports at most {_MOST_CPUS} CPUs"
            )
        found += range(first, last + 1)
        if len(found) > _MOST_CPUS:  # a small request must not cost seconds
            raise InvalidJobSpec(
                "limits.cpuset", f"more than {_MOST_CPUS} CPUs; no kernel supports so many"
            )
    return frozenset(found)


def _above(name: str, value: float | str, bound: float | str, whose: str) -> InvalidJobSpec:
    return InvalidJobSpec(name, f"{value} is above {whose}'s maximum of {bound}")


_NO_LIMITS = ResourceLimits()
_SERVER = "this server"


@dataclass(frozen=True, slots=True)
class Pressure:
    """The time that a job waited for a resource (PSI): percent of the last ten seconds, and total.

    ``some``: at least one task waited; ``full``: all tasks waited.
    https://docs.kernel.org/accounting/psi.html
    """

    some_avg10: float
    some_total_usec: int
    full_avg10: float
    full_total_usec: int


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a job has used until now, or in total once it has finished; None: not available on this host.

    ``cpu_usec`` and ``throttled_usec`` are in microseconds as in cpu.stat, memory is in bytes.
    """

    cpu_usec: int | None = None
    throttled_usec: int | None = None
    memory_current: int | None = None
    memory_peak: int | None = None
    pids_current: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_read_operations: int | None = None
    io_write_operations: int | None = None
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None
