"""What a stream of output selects by time, as one value."""

from dataclasses import dataclass

from ..errors import InvalidJobSpec

LATEST_TIME = (1 << 63) - 1
"""Maximum of a time in milliseconds since 1970: the wire has 63 bits."""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """What a stream selects by time, and whether its chunks have times; in milliseconds since 1970.

    The stream begins with the first byte that was written at ``since_ms`` or later, and ends before the
    first byte that was written after ``until_ms``.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    timestamps: bool = False

    def __post_init__(self) -> None:
        for name in ("since_ms", "until_ms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LATEST_TIME:
                raise InvalidJobSpec(name, f"{value}; must be 0 or more, and have at most 63 bits")
        if self.since_ms is not None and self.until_ms is not None and self.until_ms < self.since_ms:
            raise InvalidJobSpec("until_ms", f"{self.until_ms} is before since_ms, {self.since_ms}")


ANY_TIME = StreamTimes()
