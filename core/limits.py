"""What a job may use and what it has used, in the terms of cgroup v2.

https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from dataclasses import dataclass, field

from .errors import InvalidJobSpec


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """``quota`` in cores (0.5 is half a core), ``weight`` 1 to 10000 under contention (default 100)."""

    quota: float | None = None
    weight: int | None = None

    def __post_init__(self) -> None:
        if self.quota is not None and not 0.01 <= self.quota <= 65536:
            # The kernel's shortest quota is 1 ms (min_cfs_quota_period) in our period of 100 ms.
            raise InvalidJobSpec("limits.cpu.quota", f"{self.quota} cores; 0.01 to 65536 can be set")
        if self.weight is not None and not 1 <= self.weight <= 10000:
            raise InvalidJobSpec("limits.cpu.weight", f"{self.weight}; 1 to 10000 can be set")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes: ``max`` ends in an OOM kill, ``high`` slows down and reclaims, ``swap_max`` bounds swap."""

    max: int | None = None
    high: int | None = None
    swap_max: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("max", 1), ("high", 1), ("swap_max", 0)):
            _check_count(f"limits.memory.{name}", getattr(self, name), least)


@dataclass(frozen=True, slots=True)
class IoLimit:
    """Rates of one block device, given as /dev/x, MAJ:MIN or any path on it."""

    device: str
    read_bytes_per_second: int | None = None
    write_bytes_per_second: int | None = None
    read_operations_per_second: int | None = None
    write_operations_per_second: int | None = None

    def __post_init__(self) -> None:
        if not self.device:
            raise InvalidJobSpec("limits.io.device", "is empty; name a device, MAJ:MIN or a path")
        for name in self.__slots__[1:]:
            _check_count(f"limits.io.{name}", getattr(self, name), 1)


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """All limits of a job; None and empty mean: not limited."""

    cpu: CpuLimit = field(default_factory=CpuLimit)
    memory: MemoryLimit = field(default_factory=MemoryLimit)
    io: tuple[IoLimit, ...] = ()
    pids: int | None = None
    cpuset: str | None = None

    def __post_init__(self) -> None:
        _check_count("limits.pids", self.pids, 1)


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and not least <= value < 1 << 63:
        raise InvalidJobSpec(name, f"{value}; must be at least {least} and fit 63 bits")


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a job has used so far, or in all once it is over; None where the host does not tell.

    ``cpu_usec`` and ``throttled_usec`` in microseconds as in cpu.stat, memory in bytes.
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
