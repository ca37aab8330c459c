"""The cgroups of one job."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from ..core.errors import LimitsRejected
from ..core.model.limits import ResourceLimits, ResourceUsage
from ..core.ports import Placement
from .block_devices import with_devices
from .cgroup import Cgroup
from .controllers import cpuset, memory
from .controllers.all_controllers import all_settings
from .hierarchy.hierarchy import Version
from .memory_in_use import below_usage, is_busy, make_room
from .moving import move_all
from .rollback import replace_all
from .selection import requested
from .usage import read_usage

_log = logging.getLogger(__name__)

NOT_UNIFIED = (
    "no cgroup v2 hierarchy is mounted: the processes of the job are found and killed one by one, "
    "and a job that forks fast enough may escape"
)


class CgroupScope:
    """A Scope in the cgroups of a placement; ``find`` returns which of them has which controller.

    It is called on first use: a new server that recovers many jobs does not need it for each of them.
    ``admit`` raises LimitsUnsupported for limits that these cgroups cannot have. ``locate`` returns where a
    controller of v1 has its cgroup, for a limit that is set later. ``pressure`` is part of the usage.
    """

    def __init__(
        self,
        placement: Placement,
        find: Callable[[], Mapping[str, Cgroup]],
        admit: Callable[[ResourceLimits], None],
        locate: Callable[[str], Cgroup],
        *,
        pressure: bool = True,
    ) -> None:
        self.placement = placement
        self.unified = Cgroup(placement.unified, Version.V2) if placement.unified else None
        self.cgroups = (
            *([self.unified] if self.unified else []),
            *(Cgroup(path, Version.V1) for path in placement.legacy),
        )
        self._find = find
        self._admit = admit
        self._locate = locate
        self._pressure = pressure

    @cached_property
    def controllers(self) -> Mapping[str, Cgroup]:
        """The cgroup of each controller."""
        return self._find()

    @property
    def warnings(self) -> Sequence[str]:
        """The restrictions of this scope compared with cgroup v2."""
        return () if self.unified else (NOT_UNIFIED,)

    def exists(self) -> bool:
        """Whether any of the cgroups exists."""
        return any(os.path.isdir(cgroup.path) for cgroup in self.cgroups)

    def populated(self) -> bool:
        """Whether there is a process in any of the cgroups."""
        return any(cgroup.populated() for cgroup in self.cgroups)

    async def update(self, limits: ResourceLimits) -> None:
        """Replace all limits; one that is None is lifted.

        A lower memory.max makes the kernel reclaim memory. Raises LimitBelowUsage if that is not enough,
        LimitsUnsupported, LimitsRejected and InvalidJobSpec, and leaves the limits unchanged then.
        """
        limits = await with_devices(limits)
        self._admit(limits)
        # Lowering memory blocks while the kernel reclaims it.
        await asyncio.to_thread(self._replace, limits)

    def _replace(self, limits: ResourceLimits) -> None:
        for name in sorted(requested(limits)):
            if self.controllers.get(name) not in self.cgroups:
                self._add(name)
        cgroup = self.controllers.get(memory.name)
        if cgroup is not None:
            make_room(cgroup, limits.memory)
        try:
            replace_all(all_settings(self.controllers, limits))
        except LimitsRejected as error:
            if cgroup is not None and is_busy(error):
                raise below_usage(cgroup, limits.memory) from error
            raise

    def _add(self, name: str) -> None:
        """Move the job into a cgroup of v1 that it was not started in. Idempotent.

        The cgroup may exist: an earlier attempt may have failed, or ended with the server that made it.
        """
        cgroup = self._locate(name)
        if cgroup not in self.cgroups:  # joined with another controller
            with suppress(FileExistsError):
                cgroup.create()
                if name == cpuset.name:
                    cpuset.inherit(cgroup)
        self.controllers = {**self.controllers, name: cgroup}  # ``remove`` removes it, also after a failure
        if cgroup not in self.cgroups:
            move_all(self.cgroups[0], cgroup)

    async def usage(self) -> ResourceUsage:
        """Return the usage so far; final once no process is left."""
        return read_usage(self.controllers, self.unified, pressure=self._pressure)

    async def remove(self) -> None:
        """Remove the cgroups, including those that the job created in them.

        Logs a cgroup that the kernel does not remove, and leaves it to the next sweep.
        """
        if memory.name in self.controllers:
            await memory.drop_cache(self.controllers[memory.name])
        for cgroup in dict.fromkeys((*self.cgroups, *self.controllers.values())):
            try:
                await cgroup.remove()
            except OSError as error:
                _log.warning("cannot remove a control group; the next server start removes it: %s", error)
