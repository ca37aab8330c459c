"""The options of a job that its records in the audit log have."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class AskedUlimit(Protocol):
    """A ulimit as it is asked for, valid or not."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def soft(self) -> int | None:
        """The soft limit; None: unlimited."""
        ...

    @property
    def hard(self) -> int | None:
        """The hard limit; None: unlimited."""
        ...


class JobOptions(Protocol):
    """The options of a job that a reviewer wants to see: those of a JobSpec, or of a request for one."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        ...

    @property
    def ulimits(self) -> Sequence[AskedUlimit]:
        """Its ulimits."""
        ...

    @property
    def stdin(self) -> bool:
        """Whether clients can write to its stdin."""
        ...

    @property
    def terminal(self) -> object | None:
        """The size of its terminal, None if it has none."""
        ...

    @property
    def new_privileges(self) -> bool:
        """Whether its programs may gain privileges."""
        ...
