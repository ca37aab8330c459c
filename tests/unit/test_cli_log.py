"""The server's log: one line per event, and repeated messages do not fill the disk."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.server_log import RepeatFilter
from worker.cli.terminal.console import printable


@given(st.text())
def test_any_text_is_one_printable_line(text: str) -> None:
    """Characters that cannot be printed are escaped as in Python; nothing else is changed."""
    line = printable(text)
    assert line.isprintable()
    assert line == "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


@pytest.mark.parametrize(
    ("messages", "logged"),
    [
        ([("no descriptor", 0.0), ("no descriptor", 0.5)], [0.0]),
        ([("no descriptor", 0.0), ("no descriptor", 1.0)], [0.0, 1.0]),
        ([("no descriptor", 0.0), ("something else", 0.1)], [0.0, 0.1]),
        ([("no descriptor", 5.0), ("no descriptor", 2.0)], [5.0, 2.0]),
    ],
    ids=["immediately", "later", "another", "after the clock was set back"],
)
def test_repeated_messages_are_logged_once_a_second(
    messages: list[tuple[str, float]], logged: list[float]
) -> None:
    """A message that was logged less than a second ago is dropped, and no other."""
    repeats = RepeatFilter()
    records = [logging.makeLogRecord({"msg": message, "created": at}) for message, at in messages]
    assert logged == [record.created for record in records if repeats.filter(record)]
