"""The server's log: an event is a line, and what repeats itself does not fill the disk."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.commands.serve import _Repeats
from worker.cli.terminal.console import printable


@given(st.text())
def test_any_text_is_one_printable_line(text: str) -> None:
    """What cannot be printed is written as in Python; nothing else is changed."""
    line = printable(text)
    assert line.isprintable()
    assert line == "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([("no descriptor", 0.0), ("no descriptor", 0.5)], [0.0]),
        ([("no descriptor", 0.0), ("no descriptor", 1.0)], [0.0, 1.0]),
        ([("no descriptor", 0.0), ("something else", 0.1)], [0.0, 0.1]),
        ([("no descriptor", 5.0), ("no descriptor", 2.0)], [5.0, 2.0]),
    ],
    ids=["at once again", "later", "another", "after the clock was set back"],
)
def test_what_repeats_itself_is_said_once_a_second(
    said: list[tuple[str, float]], heard: list[float]
) -> None:
    """And nothing else is held back."""
    repeats = _Repeats()
    records = [logging.makeLogRecord({"msg": message, "created": at}) for message, at in said]
    assert heard == [record.created for record in records if repeats.filter(record)]
