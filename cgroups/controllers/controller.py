"""What every module of this package provides: the controllers of cgroups(7), in v1 and v2."""

from collections.abc import Iterator
from typing import Protocol

from ...core.model.limits import ResourceLimits, ResourceUsage
from ..cgroup import Cgroup
from ..settings import Setting


class Controller(Protocol):
    """Limits and counts one kind of resource, in a cgroup of v1 or v2."""

    @property
    def name(self) -> str:
        """The kernel's name for it, as in cgroup.controllers."""
        ...

    def requested(self, limits: ResourceLimits, /) -> bool:
        """Whether the limits contain any of this controller."""
        ...

    def settings(self, cgroup: Cgroup, limits: ResourceLimits, /) -> Iterator[Setting]:
        """Return the settings of the cgroup's files, in the order of the writes.

        Raises Unenforceable for what this host cannot enforce, InvalidJobSpec for values that are
        invalid on this host.
        """
        ...

    def usage(self, cgroup: Cgroup, so_far: ResourceUsage, /) -> ResourceUsage:
        """Return ``so_far`` with the readings of this controller added."""
        ...
