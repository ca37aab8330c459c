"""The limits of a job: one table, from which options, settings, display and doctor are derived.

To add a limit, add a row to LIMITS for its field in core/model/limits.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

import click

from ...core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)
from .parameters import (
    CORES,
    COUNT,
    CPU_LIST,
    DEVICE_OPERATIONS,
    DEVICE_RATE,
    SIZE,
    WEIGHT,
    Parsed,
    option_name,
)
from .quantities import format_size

Command = TypeVar("Command", bound=Callable[..., object])

UNLIMITED = "unlimited"
"""The value of a limit that is to be removed."""

_REMOVES = {UNLIMITED, "max"}

_NO_LIMIT = (1 << 63) - (1 << 16)
"""From here on v1 has no limit of memory: the largest number of whole pages, which may have 64 KiB."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    ``name`` is that of its option and its settings, ``field`` that in ResourceLimits ("io.NAME": in
    each IoLimit), ``kind`` the type of its value, and ``show`` formats a value for people.
    """

    name: str
    field: str
    kind: Parsed
    help: str
    show: Callable[[Any], str] = str

    @property
    def option(self) -> str:
        """The name of the option, such as ``--io-read``."""
        return option_name(self.name)

    @property
    def per_device(self) -> bool:
        """True if the limit is set for each block device."""
        return self.field.startswith("io.")

    @property
    def capability(self) -> str:
        """The key in the limits of cgroups' Capabilities: one for all limits on I/O."""
        return "io" if self.per_device else self.field

    def shown(self, value: object) -> str:
        """Return a value as text, as its option takes it."""
        if value == UNLIMITED or (isinstance(value, int) and value >= _NO_LIMIT):
            return UNLIMITED
        return self.show(value)

    @property
    def parameter(self) -> Parsed:
        """The type of its option: ``unlimited`` and ``max`` are additional values."""
        return Parsed(self.kind.name, self._parse)

    def _parse(self, text: str) -> object:
        if not self.per_device:
            return UNLIMITED if text in _REMOVES else self.kind.parse(text)
        device, _, limit = text.rpartition("=")
        return (device, UNLIMITED) if device and limit in _REMOVES else self.kind.parse(text)

    def of(self, limits: ResourceLimits | IoLimit) -> object:
        """Return the value in the limits of a job, or in those of one device; None if it is not set.

        A limit that a request removes is UNLIMITED.
        """
        name = self.field.removeprefix("io.")
        return UNLIMITED if name in limits.unlimited else attrgetter(name)(limits)

    def read(self, value: object) -> object:
        """Return the value of a key in a file, a table by device for I/O; raise ValueError."""
        if not self.per_device:
            return self.parameter.from_file(value, self.name)
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - one error for everything in a file
                "write a table, such as { '/dev/vda' = '1M' }"
            )
        for device, limit in value.items():
            # An equals sign would make a part of the limit a part of the device.
            if not isinstance(limit, str | int | float) or "=" in str(limit):
                raise ValueError(f"{device}: write a limit, such as '1M'")
        return tuple(
            self.parameter.from_file(f"{device}={limit}", self.name) for device, limit in value.items()
        )


LIMITS = (
    Limit("cpu", "cpu.quota", CORES, "CPU time, such as 0.5 or 50% of one core.", "{:g}".format),
    Limit("cpu_weight", "cpu.weight", WEIGHT, "Share of a busy CPU, 1 to 10000; 100 if not set."),
    Limit("cpus", "cpuset", CPU_LIST, "CPUs that the job may run on, such as 0-1,4."),
    Limit(
        "memory",
        "memory.max",
        SIZE,
        "Memory, such as 512K, 100MB or 1.5GiB (K, KB, KiB: 1024 bytes); above it, OOM kill.",
        format_size,
    ),
    Limit("memory_high", "memory.high", SIZE, "Memory above which the job is slowed down.", format_size),
    Limit("swap", "memory.swap_max", SIZE, "Swap space in addition to the memory.", format_size),
    Limit("pids", "pids", COUNT, "Number of processes and threads."),
    Limit(
        "io_read",
        "io.read_bytes_per_second",
        DEVICE_RATE,
        "Bytes read per second, such as /dev/vda=1M, 254:0=1M or /var=1M.",
        format_size,
    ),
    Limit("io_write", "io.write_bytes_per_second", DEVICE_RATE, "Bytes written per second.", format_size),
    Limit(
        "io_read_iops",
        "io.read_operations_per_second",
        DEVICE_OPERATIONS,
        "Reads per second, such as /dev/vda=500; K is 1000.",
    ),
    Limit("io_write_iops", "io.write_operations_per_second", DEVICE_OPERATIONS, "Writes per second."),
)


def limit_options(command: Command) -> Command:
    """Add an option for each limit to a command."""
    for each in reversed(LIMITS):
        command = click.option(
            each.option, each.name, type=each.parameter, multiple=each.per_device, help=each.help
        )(command)
    return command


def resource_limits(values: Mapping[str, Any]) -> ResourceLimits:
    """Return the limits with these values by name; others, None and empty are not set.

    Raises InvalidJobSpec for a value that is out of range.
    """
    parts: dict[str, dict[str, Any]] = {"": {}, "cpu": {}, "memory": {}}
    unlimited: list[str] = []
    for limit in LIMITS:
        value = values.get(limit.name)
        if limit.per_device:
            continue
        if value == UNLIMITED:
            unlimited.append(limit.field)
            continue
        part, _, name = limit.field.rpartition(".")
        parts[part][name] = value
    return ResourceLimits(
        cpu=CpuLimit(**parts["cpu"]),
        memory=MemoryLimit(**parts["memory"]),
        io=_io_limits(values),
        unlimited=tuple(unlimited),
        **parts[""],
    )


def _io_limits(values: Mapping[str, Any]) -> tuple[IoLimit, ...]:
    devices: dict[str, dict[str, Any]] = {}
    for limit in LIMITS:
        name = limit.field.rpartition(".")[2]
        for device, rate in (values.get(limit.name) or ()) if limit.per_device else ():
            rates = devices.setdefault(device, {"unlimited": ()})
            if name in rates or name in rates["unlimited"]:
                raise click.UsageError(f"two limits of the same kind for {device}")
            if rate == UNLIMITED:
                rates["unlimited"] += (name,)
            else:
                rates[name] = rate
    return tuple(IoLimit(device, **rates) for device, rates in devices.items())
