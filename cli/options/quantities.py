"""Parsers and formatters of quantities: sizes, rates, cores; and how sizes and durations are written.

Every parser raises ValueError with the reason and the accepted form.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_WITH_UNIT = re.compile(rf"({_NUMBER})\s*(\D*)", re.ASCII)

# Powers of 1024 in every spelling, as docker, systemd and the kernel count memory.
_POWERS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZES = {"": 1, "B": 1} | {
    f"{unit}{end}": size for unit, size in _POWERS.items() for end in ("", "B", "IB")
}

# Powers of 1000: counts, not bytes.
_COUNTS = {"": 1, "K": 1000, "M": 1000_000}


def parse_size(text: str) -> int:
    """Return the bytes of ``512K``, ``100MB``, ``1.5g``, ``1GiB`` or ``4096``, rounded down."""
    return _scaled(text, _SIZES, "K, M, G or T")


def parse_rate(text: str) -> int:
    """Return the bytes per second of a size, with or without ``/s``."""
    return parse_size(text.removesuffix("/s"))


def parse_count(text: str) -> int:
    """Return the number written as ``500``, ``2K`` or ``1.5K``; K is 1000."""
    return _scaled(text, _COUNTS, "K or M", whole=True)


def parse_cores(text: str) -> float:
    """Return the cores of ``0.5`` or ``50%``."""
    number = text.removesuffix("%").rstrip()
    if not re.fullmatch(_NUMBER, number, re.ASCII):
        raise ValueError("not a number of cores; write 0.5 or 50%")
    return float(Decimal(number) / 100 if text.endswith("%") else Decimal(number))


def parse_weight(text: str) -> int:
    """Return the weight written as ``200``."""
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII):
        raise ValueError("not a whole number; use 1 to 10000")
    return int(text)


def parse_device_rate(text: str) -> tuple[str, int]:
    """Return the device and the bytes per second of ``/dev/vda=1M``."""
    device, limit = _split_device(text)
    return device, parse_rate(limit)


def parse_device_operations(text: str) -> tuple[str, int]:
    """Return the device and the operations per second of ``/dev/vda=500``."""
    device, limit = _split_device(text)
    return device, parse_count(limit)


def format_size(size: int) -> str:
    """Return a size with a unit: ``512K`` if it is a multiple of the unit, else rounded, as ``1.5G``."""
    for unit, power in reversed(_POWERS.items()):
        if size >= power:
            even = size % power == 0
            return f"{size // power}{unit}" if even else f"{size / power:.1f}{unit}"
    return str(size)


def format_duration(seconds: float) -> str:
    """Return a duration as ``12ms``, ``3.21s`` or ``1h2m3s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _split_device(text: str) -> tuple[str, str]:
    """Split at the last equals sign: a path may contain an equals sign."""
    device, equals, limit = text.rpartition("=")
    if not equals or not device:
        raise ValueError("write DEVICE=LIMIT, as in /dev/vda=1M")
    return device, limit


def _scaled(text: str, units: Mapping[str, int], known: str, *, whole: bool = False) -> int:
    match = _WITH_UNIT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a number with a unit; use {known}")
    number, unit = match.groups()
    if unit.upper() not in units:
        raise ValueError(f"unknown unit {unit!r}; use {known}")
    scaled = Decimal(number) * units[unit.upper()]
    if whole and scaled % 1:
        raise ValueError("not a whole number")
    return int(scaled)
