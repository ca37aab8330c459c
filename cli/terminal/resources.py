"""Limits and usage in the words and units of people; limits are named as the options that set them."""

from ...core.model.limits import (
    IoLimit,
    Pressure,
    ResourceLimits,
    ResourceUsage,
)
from ..options.quantities import format_duration, format_size


def limits_line(limits: ResourceLimits) -> str:
    """Return the limits that are set, as ``cpu 0.5, memory 100M, io-write /dev/vda=4M``."""
    cpu, memory = limits.cpu, limits.memory
    named = [
        ("cpu", None if cpu.quota is None else f"{cpu.quota:g}"),
        ("cpu-weight", cpu.weight),
        ("cpus", limits.cpuset),
        ("memory", _size(memory.max)),
        ("memory-high", _size(memory.high)),
        ("swap", _size(memory.swap_max)),
        ("pids", limits.pids),
        *(limit for each in limits.io for limit in _io_limits(each)),
    ]
    return ", ".join(f"{name} {value}" for name, value in named if value is not None)


def usage_facts(usage: ResourceUsage) -> list[tuple[str, str]]:
    """Return what was used, a line for each resource that the host tells about."""
    return [
        ("CPU", _joined(_time("used", usage.cpu_usec), _time("throttled", usage.throttled_usec))),
        ("Memory", _joined(_of_size("now", usage.memory_current), _of_size("peak", usage.memory_peak))),
        ("Processes", "" if usage.pids_current is None else str(usage.pids_current)),
        (
            "I/O",
            _joined(
                _transfer("read", usage.io_read_bytes, usage.io_read_operations),
                _transfer("written", usage.io_write_bytes, usage.io_write_operations),
            ),
        ),
        (
            "Pressure",
            _joined(
                _pressure("cpu", usage.cpu_pressure),
                _pressure("memory", usage.memory_pressure),
                _pressure("io", usage.io_pressure),
            ),
        ),
    ]


def _io_limits(limit: IoLimit) -> list[tuple[str, str | None]]:
    rates = [("io-read", limit.read_bytes_per_second), ("io-write", limit.write_bytes_per_second)]
    operations = [
        ("io-read-iops", limit.read_operations_per_second),
        ("io-write-iops", limit.write_operations_per_second),
    ]
    return [
        *((name, None if rate is None else f"{limit.device}={format_size(rate)}") for name, rate in rates),
        *((name, None if rate is None else f"{limit.device}={rate}") for name, rate in operations),
    ]


def _size(size: int | None) -> str | None:
    return None if size is None else format_size(size)


def _of_size(what: str, size: int | None) -> str:
    return "" if size is None else f"{format_size(size)} {what}"


def _time(what: str, microseconds: int | None) -> str:
    return "" if microseconds is None else f"{format_duration(microseconds / 1e6)} {what}"


def _transfer(what: str, size: int | None, operations: int | None) -> str:
    told = _of_size(what, size)
    if not told or operations is None:
        return told
    return f"{told} in {operations} operation{'' if operations == 1 else 's'}"


def _pressure(resource: str, pressure: Pressure | None) -> str:
    """Tell how much of the last ten seconds was waited, and how long in all (PSI)."""
    if pressure is None:
        return ""
    some, full = (
        format_duration(pressure.some_total_usec / 1e6),
        format_duration(pressure.full_total_usec / 1e6),
    )
    return f"{resource} some {pressure.some_avg10:g}% ({some}) full {pressure.full_avg10:g}% ({full})"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
