"""The server's log: one line per event."""

from hypothesis import given
from hypothesis import strategies as st

from worker.cli.terminal.console import printable


@given(st.text())
def test_any_text_is_one_printable_line(text: str) -> None:
    """Characters that cannot be printed are escaped as in Python; nothing else is changed."""
    line = printable(text)
    assert line.isprintable()
    assert line == "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
