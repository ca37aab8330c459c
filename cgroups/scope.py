"""The control groups of one job."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from ..core.model.limits import ResourceLimits, ResourceUsage
from ..core.ports import Placement
from .controllers import memory
from .controllers.table import plan, read_usage, with_devices
from .group import Group
from .hierarchy.hierarchy import Version
from .settings import replace

_log = logging.getLogger(__name__)

NOT_UNIFIED = (
    "no cgroup v2 hierarchy is mounted: processes of the job are found and ended one by one, "
    "which one that forks fast enough may outrun"
)


class CgroupScope:
    """A Scope in the groups of a placement; ``find`` tells which of them has which controller.

    It is asked when that is needed: not for every job that a new server takes over.
    ``admit`` raises LimitsUnsupported for limits that these groups cannot have.
    """

    def __init__(
        self,
        placement: Placement,
        find: Callable[[], Mapping[str, Group]],
        admit: Callable[[ResourceLimits], None],
    ) -> None:
        self.placement = placement
        self.unified = Group(placement.unified, Version.V2) if placement.unified else None
        self.groups = (
            *([self.unified] if self.unified else []),
            *(Group(path, Version.V1) for path in placement.legacy),
        )
        self._find = find
        self._admit = admit

    @cached_property
    def controllers(self) -> Mapping[str, Group]:
        """The group of each controller."""
        return self._find()

    @property
    def warnings(self) -> Sequence[str]:
        """What is weaker here than where there is cgroup v2."""
        return () if self.unified else (NOT_UNIFIED,)

    def exists(self) -> bool:
        """Tell whether any of the groups is there."""
        return any(os.path.isdir(group.path) for group in self.groups)

    def populated(self) -> bool:
        """Tell whether a process lives in any of the groups."""
        return any(group.populated() for group in self.groups)

    async def update(self, limits: ResourceLimits) -> None:
        """Replace all limits; one that is None is lifted.

        Lowering memory.max below what is in use has the kernel reclaim, and on v2 kill (OOM) where
        that is not enough; on v1 it is refused. Raises LimitsUnsupported, LimitsRejected and
        InvalidJobSpec, and the limits are as they were then.
        """
        limits = await with_devices(limits)
        self._admit(limits)
        # Lowering memory waits for the kernel to reclaim it.
        await asyncio.to_thread(replace, plan(self.controllers, limits))

    async def usage(self) -> ResourceUsage:
        """Return what has been used so far: once no process is left, in all."""
        return read_usage(self.controllers, self.unified)

    async def remove(self) -> None:
        """Remove the groups, also those that the job made in them.

        A group that the kernel does not let go of is logged and left to the next sweep.
        """
        if memory.name in self.controllers:
            await memory.release(self.controllers[memory.name])
        for group in self.groups:
            try:
                await group.remove()
            except OSError as error:
                _log.warning("control group left for the next start to remove: %s", error)
