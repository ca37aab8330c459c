"""Limits as people write them: one table, from which options and the server's settings follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict, TypeVar

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

Command = TypeVar("Command", bound=Callable[..., object])
DeviceLimits = tuple[tuple[str, int], ...]


class Limits(TypedDict, total=False):
    """The values of limits by the names of their options; what is absent, None or empty is not set."""

    cpu: float | None
    cpu_weight: int | None
    cpus: str | None
    memory: int | None
    memory_high: int | None
    swap: int | None
    pids: int | None
    io_read: DeviceLimits
    io_write: DeviceLimits
    io_read_iops: DeviceLimits
    io_write_iops: DeviceLimits


@dataclass(frozen=True, slots=True)
class Limit:
    """One kind of limit: what its option takes and what it means."""

    name: str
    kind: Parsed
    help: str

    @property
    def option(self) -> str:
        """What it is called on the command line."""
        return option_name(self.name)

    @property
    def per_device(self) -> bool:
        """Whether there is one for each block device."""
        return self.kind in {DEVICE_RATE, DEVICE_OPERATIONS}

    def read(self, value: object) -> object:
        """Return the value of a key in a file, per device of a table; raise ValueError."""
        if not self.per_device:
            return self.kind.from_file(value, self.name)
        if not isinstance(value, dict):
            raise ValueError("write a table, as { '/dev/vda' = '1M' }")  # noqa: TRY004 - as for all in a file
        return tuple(self.kind.from_file(f"{device}={limit}", self.name) for device, limit in value.items())


LIMITS = (
    Limit("cpu", CORES, "Processor time, as 0.5 or 50% of one core."),
    Limit("cpu_weight", WEIGHT, "Share of a busy processor, 1 to 10000; everybody else's is 100."),
    Limit("cpus", CPU_LIST, "Processors to run on, as 0-1,4."),
    Limit(
        "memory",
        SIZE,
        "Memory beyond which the kernel kills, as 512K, 100MB, 1.5GiB; K, KB and KiB are 1024 bytes.",
    ),
    Limit("memory_high", SIZE, "Memory beyond which the job is slowed down."),
    Limit("swap", SIZE, "Swap space on top of the memory."),
    Limit("pids", COUNT, "Number of processes and threads."),
    Limit("io_read", DEVICE_RATE, "Bytes read per second, as /dev/vda=1M, 254:0=1M or /var=1M."),
    Limit("io_write", DEVICE_RATE, "Bytes written per second."),
    Limit("io_read_iops", DEVICE_OPERATIONS, "Reads per second, as /dev/vda=500; a K is 1000."),
    Limit("io_write_iops", DEVICE_OPERATIONS, "Writes per second."),
)


def limit_options(command: Command) -> Command:
    """Give a command an option for each limit."""
    for each in reversed(LIMITS):
        command = click.option(
            each.option, each.name, type=each.kind, multiple=each.per_device, help=each.help
        )(command)
    return command


def resource_limits(values: Limits) -> ResourceLimits:
    """Return the limits that are set; raise InvalidJobSpec if there can be none like that."""
    return ResourceLimits(
        cpu=CpuLimit(values.get("cpu"), values.get("cpu_weight")),
        memory=MemoryLimit(values.get("memory"), values.get("memory_high"), values.get("swap")),
        io=_io_limits(
            read_bytes_per_second=values.get("io_read"),
            write_bytes_per_second=values.get("io_write"),
            read_operations_per_second=values.get("io_read_iops"),
            write_operations_per_second=values.get("io_write_iops"),
        ),
        pids=values.get("pids"),
        cpuset=values.get("cpus"),
    )


def _io_limits(**limits: DeviceLimits | None) -> tuple[IoLimit, ...]:
    """Gather by device what the options give by kind."""
    by_device: dict[str, dict[str, int]] = {}
    for kind, devices in limits.items():
        for device, limit in devices or ():
            if kind in by_device.setdefault(device, {}):
                raise click.UsageError(f"two limits of the same kind for {device}")
            by_device[device][kind] = limit
    return tuple(IoLimit(device, **kinds) for device, kinds in by_device.items())
