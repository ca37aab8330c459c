"""Translation between messages and the core's values of limits, ulimits and usage, in both directions."""

from collections.abc import Sequence

from ..core.errors import InvalidJobSpec
from ..core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    Pressure,
    ResourceLimits,
    ResourceUsage,
)
from ..core.model.ulimits import Ulimit
from ..proto import worker as proto

_LIMITS = {
    "cpu_quota_millicores": "cpu.quota",
    "cpu_weight": "cpu.weight",
    "memory_max": "memory.max",
    "memory_high": "memory.high",
    "memory_swap_max": "memory.swap_max",
    "pids_max": "pids",
    "cpuset_cpus": "cpuset",
}
"""The names in LIMIT_NAMES, by the field of the message."""


def limits_message(limits: ResourceLimits) -> proto.Limits | None:
    """Return limits as a message; None for no limits."""
    if limits == ResourceLimits():
        return None
    quota = limits.cpu.quota
    return proto.Limits(
        cpu_quota_millicores=None if quota is None else round(quota * 1000),
        cpu_weight=limits.cpu.weight,
        memory_max=limits.memory.max,
        memory_high=limits.memory.high,
        memory_swap_max=limits.memory.swap_max,
        pids_max=limits.pids,
        cpuset_cpus=limits.cpuset,
        io=[
            proto.IoLimit(
                device=each.device,
                read_bytes_per_second=each.read_bytes_per_second,
                write_bytes_per_second=each.write_bytes_per_second,
                read_operations_per_second=each.read_operations_per_second,
                write_operations_per_second=each.write_operations_per_second,
                unlimited=list(each.unlimited),
            )
            for each in limits.io
        ],
        unlimited=[field for field, name in _LIMITS.items() if name in limits.unlimited],
    )


def limits_of(message: proto.Limits | None) -> ResourceLimits:
    """Return the limits in a message; raise InvalidJobSpec for an unknown name of one to remove."""
    if message is None:
        return ResourceLimits()
    quota = message.cpu_quota_millicores
    return ResourceLimits(
        cpu=CpuLimit(None if quota is None else quota / 1000, message.cpu_weight),
        memory=MemoryLimit(message.memory_max, message.memory_high, message.memory_swap_max),
        io=tuple(
            IoLimit(
                device=each.device,
                read_bytes_per_second=each.read_bytes_per_second,
                write_bytes_per_second=each.write_bytes_per_second,
                read_operations_per_second=each.read_operations_per_second,
                write_operations_per_second=each.write_operations_per_second,
                unlimited=tuple(each.unlimited),
            )
            for each in message.io
        ),
        pids=message.pids_max,
        cpuset=message.cpuset_cpus,
        unlimited=tuple(_limit_name(each) for each in message.unlimited),
    )


def _limit_name(field: str) -> str:
    if field not in _LIMITS:
        raise InvalidJobSpec("limits.unlimited", f"unknown limit {field!r}; known are {', '.join(_LIMITS)}")
    return _LIMITS[field]


def ulimits_message(ulimits: Sequence[Ulimit]) -> list[proto.Ulimit]:
    """Return ulimits as messages."""
    return [proto.Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in ulimits]


def usage_message(usage: ResourceUsage) -> proto.Usage:
    """Return the usage of a job as a message."""
    return proto.Usage(
        cpu_microseconds=usage.cpu_usec,
        throttled_microseconds=usage.throttled_usec,
        memory_current=usage.memory_current,
        memory_peak=usage.memory_peak,
        pids_current=usage.pids_current,
        io_read_bytes=usage.io_read_bytes,
        io_write_bytes=usage.io_write_bytes,
        io_read_operations=usage.io_read_operations,
        io_write_operations=usage.io_write_operations,
        cpu_pressure=_pressure_message(usage.cpu_pressure),
        memory_pressure=_pressure_message(usage.memory_pressure),
        io_pressure=_pressure_message(usage.io_pressure),
    )


def usage_of(message: proto.Usage) -> ResourceUsage:
    """Return the usage of a job in a message."""
    return ResourceUsage(
        cpu_usec=message.cpu_microseconds,
        throttled_usec=message.throttled_microseconds,
        memory_current=message.memory_current,
        memory_peak=message.memory_peak,
        pids_current=message.pids_current,
        io_read_bytes=message.io_read_bytes,
        io_write_bytes=message.io_write_bytes,
        io_read_operations=message.io_read_operations,
        io_write_operations=message.io_write_operations,
        cpu_pressure=_pressure(message.cpu_pressure),
        memory_pressure=_pressure(message.memory_pressure),
        io_pressure=_pressure(message.io_pressure),
    )


def _pressure_message(pressure: Pressure | None) -> proto.Pressure | None:
    if pressure is None:
        return None
    return proto.Pressure(
        some_avg10_basis_points=round(pressure.some_avg10 * 100),
        some_total_microseconds=pressure.some_total_usec,
        full_avg10_basis_points=round(pressure.full_avg10 * 100),
        full_total_microseconds=pressure.full_total_usec,
    )


def _pressure(message: proto.Pressure | None) -> Pressure | None:
    if message is None:
        return None
    return Pressure(
        some_avg10=message.some_avg10_basis_points / 100,
        some_total_usec=message.some_total_microseconds,
        full_avg10=message.full_avg10_basis_points / 100,
        full_total_usec=message.full_total_microseconds,
    )
