"""The start of a stream of output, as one value, so that no two arguments can contradict each other."""

from dataclasses import dataclass

from ..errors import InvalidJobSpec


def _check_not_negative(name: str, value: int) -> None:
    if value < 0:
        raise InvalidJobSpec(name, f"{value}; must be 0 or more")


@dataclass(frozen=True, slots=True)
class FromOffset:
    """Start at the byte with this offset; the first byte of a job's output has offset 0."""

    offset: int = 0

    def __post_init__(self) -> None:
        _check_not_negative("offset", self.offset)


@dataclass(frozen=True, slots=True)
class LastLines:
    """Start this many lines before the end, as ``tail -n`` does."""

    count: int

    def __post_init__(self) -> None:
        _check_not_negative("tail_lines", self.count)


@dataclass(frozen=True, slots=True)
class LastBytes:
    """Start this many bytes before the end, as ``tail -c`` does."""

    count: int

    def __post_init__(self) -> None:
        _check_not_negative("tail_bytes", self.count)


StreamStart = FromOffset | LastLines | LastBytes

BEGINNING = FromOffset()
