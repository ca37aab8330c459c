"""Parsing and formatting of sizes, rates, cores and durations."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.options.quantities import (
    format_duration,
    format_size,
    parse_cores,
    parse_count,
    parse_device_operations,
    parse_device_rate,
    parse_rate,
    parse_size,
    parse_weight,
)
from worker.core.model.duration import parse_duration

PARSERS: list[Callable[[str], object]] = [
    parse_cores,
    parse_count,
    parse_device_operations,
    parse_device_rate,
    parse_duration,
    parse_rate,
    parse_size,
    parse_weight,
]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("100B", 100),
        ("512K", 512 << 10),
        ("10MB", 10 << 20),
        ("10mb", 10 << 20),
        ("10kib", 10 << 10),
        ("100M", 100 << 20),
        ("100m", 100 << 20),
        ("1.5G", 3 << 29),
        ("1GiB", 1 << 30),
        ("2 T", 2 << 40),
        ("0.3K", 307),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are powers of 1024 in every spelling and case, rounded down to whole bytes."""
    assert size == parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("10s", 10), ("500ms", 0.5), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is the sum of its parts; a bare number is in seconds."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(("text", "cores"), [("0.5", 0.5), ("50%", 0.5), ("150 %", 1.5), ("2", 2)])
def test_cores(text: str, cores: float) -> None:
    """Cores are a number, or a percentage of one core."""
    assert cores == parse_cores(text)


def test_device_limits() -> None:
    """The last equals sign separates device and limit; K is 1000 for operations."""
    assert ("/dev/vda", 1 << 20) == parse_device_rate("/dev/vda=1M")
    assert ("/mnt/a=b", 1 << 20) == parse_device_rate("/mnt/a=b=1M/s")
    assert ("254:0", 2000) == parse_device_operations("254:0=2K")


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (parse_size, "10X", "unknown unit 'X'; use K, M, G or T"),
        (parse_size, "10MX", "unknown unit 'MX'; use K, M, G or T"),
        (parse_size, "10iB", "unknown unit 'iB'; use K, M, G or T"),
        (parse_weight, "1.5", "not a whole number; use 1 to 10000"),
        (parse_count, "1.5", "not a whole number"),
        (parse_count, "1.2345K", "not a whole number"),
        (parse_size, "-1", "not a number with a unit; use K, M, G or T"),
        (parse_size, "", "not a number with a unit; use K, M, G or T"),
        (parse_size, "1e3", "not a number with a unit; use K, M, G or T"),
        (parse_count, "10G", "unknown unit 'G'; use K or M"),
        (parse_cores, "nan", "not a number of cores; write 0.5 or 50%"),
        (parse_cores, "%", "not a number of cores; write 0.5 or 50%"),
        (parse_duration, "10x", "unknown unit 'x'; use ms, s, m, h or d"),
        (parse_duration, "1h30", "30 has no unit; use ms, s, m, h or d"),
        (parse_duration, "", "not a duration; write 10s, 500ms or 1h30m"),
        (parse_duration, "soon", "not a duration; write 10s, 500ms or 1h30m"),
        (parse_device_rate, "1M", "write DEVICE=LIMIT, as in /dev/vda=1M"),
        (parse_device_rate, "=1M", "write DEVICE=LIMIT, as in /dev/vda=1M"),
        (parse_device_rate, "/dev/vda=fast", "not a number with a unit; use K, M, G or T"),
    ],
)
def test_reasons(parse: Callable[[str], object], text: str, reason: str) -> None:
    """A text that cannot be parsed is rejected with the accepted form."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        parse(text)
    assert reason == str(refused.value)


@given(st.sampled_from(PARSERS), st.text() | st.text("0123456789.%=KMGTiBsmhd -+e_/٣", max_size=30))
def test_any_text_is_parsed_or_rejected(parse: Callable[[str], object], text: str) -> None:
    """A parser raises no exception but ValueError, whatever the text."""
    with contextlib.suppress(ValueError):
        parse(text)


@given(st.integers(0, 1 << 62))
def test_plain_numbers_are_exact(number: int) -> None:
    """A size in bytes is parsed exactly."""
    assert number == parse_size(str(number))


@given(st.integers(0, 10**6), st.sampled_from([("K", 10), ("M", 20), ("G", 30), ("T", 40)]))
def test_units_scale(number: int, unit: tuple[str, int]) -> None:
    """Every unit is a power of 1024, in both spellings."""
    name, power = unit
    assert number << power == parse_size(f"{number}{name}") == parse_size(f"{number}{name}iB")


@given(st.integers(0, 1 << 62))
def test_formatted_sizes_are_close(size: int) -> None:
    """A formatted size can be parsed and is within 5 %; a multiple of the unit is exact."""
    shown = parse_size(format_size(size))
    assert abs(shown - size) <= size / 20
    assert size << 10 == parse_size(format_size(size << 10)) or size >= 1 << 10


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0ms"), (0.0124, "12ms"), (3.214, "3.21s"), (61, "1m1s"), (3723.4, "1h2m3s"), (7200, "2h0m0s")],
)
def test_formatted_durations(seconds: float, shown: str) -> None:
    """A longer duration is formatted with a coarser unit."""
    assert shown == format_duration(seconds)


@given(st.integers(0, 1000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int, millis: int) -> None:
    """A duration is the sum of its parts."""
    expected = (hours * 3_600_000 + minutes * 60_000 + seconds * 1000 + millis) / 1000
    assert expected == parse_duration(f"{hours}h{minutes}m{seconds}s{millis}ms")
