"""Times as they are written on the command line: ago, as a date or as seconds since 1970, as for docker."""

import re
import time
from datetime import UTC, datetime
from decimal import Decimal

from ...core.model.duration import parse_duration
from ...core.model.stream_times import LATEST_TIME

_UNIX = re.compile(r"[0-9]+(\.[0-9]{1,9})?", re.ASCII)
_LATEST_SECOND = 253_402_300_799  # of the year 9999
_DATE = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?P<time>[Tt ]\d\d(:\d\d(:\d\d([.,]\d{1,9})?)?)?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_FORMS = "write 10m for ten minutes ago, 2026-01-02T15:04:05Z or seconds since 1970"


def parse_time(text: str) -> int:
    """Return the milliseconds since 1970 of ``10m``, ``2026-01-02T15:04:05Z`` or ``1767366245``.

    A duration is that long ago, and in the future with a minus sign. A date without a zone is in that of
    this machine.
    """
    if _UNIX.fullmatch(text):
        if Decimal(text) > _LATEST_SECOND:
            raise ValueError(f"after the year 9999; {_FORMS}")
        return int(Decimal(text) * 1000)
    if date := _DATE.fullmatch(text):
        return _of_date(date["day"] + (date["time"] or "T00:00") + (date["zone"] or ""))
    length = text.removeprefix("-")
    if _UNIX.fullmatch(length):
        raise ValueError(f"before 1970; {_FORMS}")
    try:
        duration = round(parse_duration(length) * 1000)
    except ValueError as error:
        raise ValueError(f"{error}; {_FORMS}" if re.match(r"-?\d", text) else _FORMS) from None
    now = time.time_ns() // 1_000_000
    return min(max(0, now + duration if text.startswith("-") else now - duration), LATEST_TIME)


def format_time(time_ms: int) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds."""
    seconds, rest = divmod(min(max(0, time_ms), _LATEST_SECOND * 1000 + 999), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03}Z"


def _of_date(text: str) -> int:
    try:
        written = datetime.fromisoformat(text.upper())
        return max(0, int(written.replace(microsecond=0).timestamp()) * 1000 + written.microsecond // 1000)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{error}; {_FORMS}") from None
