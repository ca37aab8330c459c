"""Output of a job as lines of text."""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from io import StringIO

from ..core.model.job import Chunk


class Lines:
    """Splits chunks into lines. At most ``longest`` characters of a line are kept."""

    def __init__(self, longest: int) -> None:
        if longest < 1:
            raise ValueError("the longest line has at least one character")
        self._longest = longest
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._line = StringIO(newline="")
        self._end: int | None = None

    def add(self, chunk: Chunk) -> Iterator[str]:
        """Yield the lines that end in a chunk, and pieces of one that is too long."""
        if self._end is not None and chunk.offset > self._end:
            yield from self.end()  # what was in between is no longer kept
        self._end = chunk.offset + len(chunk.data)
        yield from self._split(self._decoder.decode(chunk.data))

    def end(self) -> Iterator[str]:
        """Yield what is left at the end of the output: a line without a newline."""
        yield from self._split(self._decoder.decode(b"", final=True))
        self._decoder.reset()
        yield from self._take()

    def _split(self, text: str) -> Iterator[str]:
        begin = 0
        while begin < len(text):
            end = text.find("\n", begin) + 1 or len(text)
            end = min(end, begin + self._longest - self._line.tell())
            self._line.write(text[begin:end])
            if text[end - 1] == "\n" or self._line.tell() == self._longest:
                yield from self._take()
            begin = end

    def _take(self) -> Iterator[str]:
        line, self._line = self._line.getvalue(), StringIO(newline="")
        if line:
            yield line
