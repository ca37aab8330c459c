"""How a duration is written: in settings, on the command line and in variables."""

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite

_STEP = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)([^\d.\s]*)", re.ASCII)

_SECONDS: Mapping[str, Decimal] = {
    "": Decimal(1),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}


def parse_duration(text: str) -> float:
    """Return the seconds of ``10s``, ``500ms``, ``1h30m`` or ``90``."""
    total, position = Decimal(0), 0
    for step in _STEP.finditer(text):
        number, unit = step.groups()
        if step.start() != position:
            break
        if unit not in _SECONDS:
            raise ValueError(f"unknown unit {unit!r}; use ms, s, m, h or d")
        if not unit and step.group() != text:
            raise ValueError(f"{number} has no unit; use ms, s, m, h or d")
        total += Decimal(number) * _SECONDS[unit]
        position = step.end()
    if not text or position != len(text):
        raise ValueError("not a duration; write 10s, 500ms or 1h30m")
    seconds = float(total)
    assert isfinite(seconds)  # 20 digits of days fit into a float
    return seconds
