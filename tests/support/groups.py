"""The control groups of this very machine that jobs of tests are in."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from worker.cgroups.hierarchy.hierarchy import Hierarchy, Home, detect
from worker.cgroups.limiter import CgroupLimiter
from worker.cgroups.subtree import Subtree
from worker.core.errors import LimitsUnsupported
from worker.core.model.job import JobId
from worker.core.ports import Placement

HIERARCHY: Hierarchy = detect(os.getpid())
MIB = 1 << 20


def homes() -> Mapping[str, Home]:
    """Return where this process can make groups, by controller; nowhere without the rights."""
    try:
        return Subtree("worker-test", HIERARCHY).homes
    except LimitsUnsupported:
        return {}


HOMES = homes()

needs_groups = pytest.mark.skipif(
    not HOMES.keys() >= {"cpu", "memory", "pids"} or HIERARCHY.unified is None,
    reason="control groups can be made by root, or where they are delegated, only",
)


def places_of(parent: str) -> set[Path]:
    """Return the groups that those of jobs are made in."""
    return Subtree(parent, detect(os.getpid())).places()


def groups_of(job: JobId, parent: str) -> list[Path]:
    """Return the groups that a job has."""
    places = (place / str(job) for place in places_of(parent))
    return [place for place in places if place.exists()]


def directories(placement: Placement) -> list[str]:
    """Return all groups of a placement."""
    return [path for path in (placement.unified, *placement.legacy) if path]


@asynccontextmanager
async def limiter_named(parent: str) -> AsyncIterator[CgroupLimiter]:
    """Make a limiter, and take down what is left of it."""
    limiter = CgroupLimiter(parent)
    try:
        yield limiter
    finally:
        await limiter.sweep([])
        await limiter.close()
