"""Limits and usage of a job as text; limits have the names of their options."""

from ...core.model.limits import (
    Pressure,
    ResourceLimits,
    ResourceUsage,
)
from ..options.limits import LIMITS
from ..options.quantities import format_duration, format_size


def limits_line(limits: ResourceLimits) -> str:
    """Return the limits that are set, as ``cpu 0.5, memory 100M, io-write /dev/vda=4M``."""
    of_job = [(each, "", each.of(limits)) for each in LIMITS if not each.per_device]
    of_devices = [
        (each, f"{device.device}=", each.of(device))
        for device in limits.io
        for each in LIMITS
        if each.per_device
    ]
    return ", ".join(
        f"{each.option.removeprefix('--')} {device}{each.shown(value)}"
        for each, device, value in (*of_job, *of_devices)
        if value is not None
    )


def usage_details(usage: ResourceUsage, *, running: bool) -> list[tuple[str, str]]:
    """Return name and text of each resource; the text is empty if the host does not measure it.

    ``running``: the job has not ended, so the memory in use is that of now.
    """
    when = "now" if running else "at the end"
    return [
        ("CPU", _joined(_time("used", usage.cpu_usec), _time("throttled", usage.throttled_usec))),
        ("Memory", _joined(_of_size(when, usage.memory_current), _of_size("peak", usage.memory_peak))),
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


def _of_size(what: str, size: int | None) -> str:
    return "" if size is None else f"{format_size(size)} {what}"


def _time(what: str, microseconds: int | None) -> str:
    return "" if microseconds is None else f"{format_duration(microseconds / 1e6)} {what}"


def _transfer(what: str, size: int | None, operations: int | None) -> str:
    text = _of_size(what, size)
    if not text or operations is None:
        return text
    return f"{text} in {operations} operation{'' if operations == 1 else 's'}"


def _pressure(resource: str, pressure: Pressure | None) -> str:
    """Return the share of the last ten seconds spent waiting, and the total (PSI)."""
    if pressure is None:
        return ""
    some, full = (
        format_duration(pressure.some_total_usec / 1e6),
        format_duration(pressure.full_total_usec / 1e6),
    )
    return f"{resource} some {pressure.some_avg10:g}% ({some}) full {pressure.full_avg10:g}% ({full})"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
