"""The cgroups of the host that the tests run on, for limiters and jobs of tests."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from worker.cgroups.accounting import Accounting
from worker.cgroups.hierarchy.detection import detect
from worker.cgroups.hierarchy.hierarchy import ControllerRoot, Hierarchy
from worker.cgroups.limiter import CgroupLimiter
from worker.cgroups.subtree import Subtree
from worker.core.errors import LimitsUnsupported
from worker.core.model.job import JobId
from worker.core.ports import Placement

HIERARCHY: Hierarchy = detect(os.getpid())
MIB = 1 << 20


def controller_roots() -> Mapping[str, ControllerRoot]:
    """Return where this process can create cgroups, by controller; empty without the rights."""
    try:
        return Subtree("worker-test", HIERARCHY).roots
    except LimitsUnsupported:
        return {}


ROOTS = controller_roots()

needs_cgroups = pytest.mark.skipif(
    not ROOTS.keys() >= {"cpu", "memory", "pids"} or HIERARCHY.unified is None,
    reason="only root, or a user with a delegated cgroup, can create cgroups",
)


def parents_of(parent: str) -> set[Path]:
    """Return the cgroups that contain those of the jobs."""
    return Subtree(parent, detect(os.getpid())).parents()


def cgroups_of(job: JobId, parent: str) -> list[Path]:
    """Return the existing cgroups of a job."""
    paths = (each / str(job) for each in parents_of(parent))
    return [path for path in paths if path.exists()]


def directories(placement: Placement) -> list[str]:
    """Return all cgroups of a placement."""
    return [path for path in (placement.unified, *placement.legacy) if path]


@asynccontextmanager
async def limiter_named(
    parent: str, accounting: Accounting = Accounting.FULL
) -> AsyncIterator[CgroupLimiter]:
    """Create a limiter, and remove the cgroups that remain of it."""
    limiter = CgroupLimiter(parent, accounting=accounting)
    try:
        yield limiter
    finally:
        await limiter.sweep([])
        await limiter.close()
