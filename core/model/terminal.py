"""The terminal of a job: pty(7)."""

from dataclasses import dataclass

from ..errors import InvalidJobSpec

_MOST = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class WindowSize:
    """The size of a terminal in characters; 0: unknown, as in ioctl_tty(2). Raises InvalidJobSpec."""

    rows: int = 0
    columns: int = 0

    def __post_init__(self) -> None:
        for name, size in (("rows", self.rows), ("columns", self.columns)):
            if not 0 <= size <= _MOST:
                raise InvalidJobSpec("terminal", f"{size} {name}; must be 0 to {_MOST}")
