"""Times on the command line, and the timestamps of lines."""

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.options.times import format_time, parse_time
from worker.cli.terminal.console import Failure
from worker.cli.terminal.timestamps import TimestampedLines
from worker.core.model.job import Chunk

TIME = 1_767_366_245_123
WRITTEN = "2026-01-02T15:04:05.123Z"


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        (WRITTEN, TIME),
        ("2026-01-02t15:04:05.123z", TIME),
        ("2026-01-02T15:04:05.123999999Z", TIME),
        ("2026-01-02 16:04:05,123+01:00", TIME),
        ("2026-01-02T15:04Z", 1_767_366_240_000),
        ("2026-01-02T15Z", 1_767_366_000_000),
        ("2026-01-02T15-01:00", 1_767_369_600_000),
        ("2026-01-02Z", 1_767_312_000_000),
        ("2026-01-02z", 1_767_312_000_000),
        ("2026-01-02+01:00", 1_767_308_400_000),
        ("2026-01-02-0100", 1_767_315_600_000),
        ("1767366245.123", TIME),
        ("1767366245", 1_767_366_245_000),
        ("0", 0),
        ("1900-01-01T00:00:00Z", 0),
    ],
)
def test_times(text: str, time_ms: int) -> None:
    """A time is written as RFC 3339 or as seconds since 1970; before 1970 it is 0."""
    assert time_ms == parse_time(text)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_a_date_without_a_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the zone of this machine, as for docker."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", zone)
        time.tzset()
        there = 1000 * int(time.mktime((2026, 1, 2, 0, 0, 0, 0, 0, -1)))
        assert there == parse_time("2026-01-02")
        assert there + 5000 == parse_time("2026-01-02T00:00:05")
        assert there + 3_600_000 == parse_time("2026-01-02T01")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", -600), ("1h30m", -5400), ("500ms", -0.5), ("-10m", 600), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is that long ago; with a minus sign it is in the future."""
    before, parsed, after = time.time_ns(), parse_time(text), time.time_ns()
    assert before // 1_000_000 <= parsed - seconds * 1000 <= after // 1_000_000
    assert 0 == parse_time("99999999d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "yesterday",
        "10y",
        "2026-13-01",
        "2026-13-01Z",
        "2026-01-02T",
        "25:00",
        "--10m",
        "1767366245Z",
        "-5",
    ],
)
def test_what_is_no_time(text: str) -> None:
    """The error has the accepted forms."""
    with pytest.raises(
        ValueError, match=re.escape("write 10m for ten minutes ago, 2026-01-02T15:04:05Z or")
    ):
        parse_time(text)


@given(st.integers(0, 253_402_300_799_999))
def test_a_printed_time_can_be_given(time_ms: int) -> None:
    """It is RFC 3339 in UTC, and names the same millisecond."""
    text = format_time(time_ms)
    assert time_ms == parse_time(text)
    assert datetime.fromisoformat(text).tzinfo == UTC
    assert len(WRITTEN) == len(text)


def test_a_time_that_has_no_date() -> None:
    """A server may send any number."""
    assert "9999-12-31T23:59:59.999Z" == format_time((1 << 63) - 1)
    assert "1970-01-01T00:00:00.000Z" == format_time(-1)


@given(
    pieces=st.lists(st.lists(st.sampled_from([b"\n", b"a", b"\xff\x00"]), min_size=1).map(b"".join)),
)
def test_each_line_has_one_timestamp(pieces: list[bytes]) -> None:
    """That of its first byte, however chunks divide it; all other bytes stay as they are."""
    lines, printed, expected = TimestampedLines(), b"", b""
    offset = 0
    for number, piece in enumerate(pieces):
        chunk = Chunk(offset, piece, TIME + number)
        offset += len(piece)
        printed += lines.add(chunk)
        for position in range(len(piece)):
            if not expected or expected.endswith(b"\n"):
                expected += format_time(TIME + number).encode() + b" "
            expected += piece[position : position + 1]
    assert expected == printed


def test_a_line_begins_after_missing_output() -> None:
    """What follows belongs to another line; an empty chunk, as of a tail, changes nothing."""
    lines = TimestampedLines()
    printed = [
        lines.add(Chunk(*each)) for each in ((5, b""), (5, b"a", TIME), (9, b"b", TIME), (10, b"c", 1))
    ]
    assert [b"", f"{WRITTEN} a".encode(), f"{WRITTEN} b".encode(), b"c"] == printed


def test_a_server_of_an_earlier_version() -> None:
    """It ignores the request for times; the command says so, rather than printing wrong ones."""
    with pytest.raises(Failure, match="the server sends no times: it is of an earlier version"):
        TimestampedLines().add(Chunk(0, b"output\n"))
