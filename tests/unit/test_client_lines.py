"""Lines of text from chunks of bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.client.lines import Lines
from worker.core.model.job import Chunk


def lines_of(chunks: list[Chunk], longest: int = 1 << 20) -> list[str]:
    """Return all lines."""
    lines = Lines(longest)
    return [line for chunk in chunks for line in lines.add(chunk)] + list(lines.end())


def chunks_of(data: bytes, cuts: list[int]) -> list[Chunk]:
    """Cut data into chunks."""
    positions = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [Chunk(begin, data[begin:end]) for begin, end in pairwise(positions)]


text_data = st.text("aé€😀\r\n\x0b\u2028", max_size=60).map(str.encode)


@given(data=text_data | st.binary(max_size=60), cuts=st.lists(st.integers(0, 1000)))
def test_wherever_the_output_is_cut(data: bytes, cuts: list[int]) -> None:
    """Lines end at newlines only, keep them, and are all of the output."""
    whole = data.decode(errors="replace")
    found = lines_of(chunks_of(data, cuts))
    assert whole == "".join(found)
    assert [f"{line}\n" for line in whole.split("\n")[:-1]] == found[: whole.count("\n")]
    assert all(found)


@given(data=text_data, cuts=st.lists(st.integers(0, 1000)), longest=st.integers(1, 5))
def test_long_lines_come_in_pieces(data: bytes, cuts: list[int], longest: int) -> None:
    """No piece is longer than the bound, and a piece without newline is as long, except the last."""
    found = lines_of(chunks_of(data, cuts), longest)
    assert data.decode() == "".join(found)
    assert all(len(piece) <= longest for piece in found)
    assert all(piece.endswith("\n") or len(piece) == longest for piece in found[:-1])


def test_output_that_is_no_longer_kept() -> None:
    """A line ends where output is missing, also within a character."""
    assert ["one\ufffd", "o\n"] == lines_of([Chunk(0, b"one\xc3"), Chunk(8, b"o\n")])


def test_the_bound_is_positive() -> None:
    """A bound of no characters is refused."""
    with pytest.raises(ValueError, match="at least one character"):
        Lines(0)
