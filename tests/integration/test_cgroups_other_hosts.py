"""Other hosts, simulated: one process with other mounts in its own mount namespace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cgroups.hierarchy.detection import detect

HIERARCHY = detect(os.getpid())

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can create mount namespaces"),
    pytest.mark.skipif(
        HIERARCHY.unified is None or not HIERARCHY.legacy.keys() >= {"cpu", "memory", "pids"},
        reason="this host has no v1 controllers beside a unified hierarchy",
    ),
]

PURE_V1 = f"umount {HIERARCHY.unified}"
NO_CGROUPS = "for m in $(awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts); do umount $m; done"
READ_ONLY = """
for m in $(awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts); do mount -o remount,bind,ro $m; done
"""

DOCTOR = """
from worker.cgroups.capabilities import capabilities
found = capabilities("worker-test-doctor")
pids, kill, freezer = found.limits["pids"], found.cgroup_kill, found.freezer
print(found.hierarchy, found.usable.available, *(each.available for each in (pids, kill, freezer)))
for each in (found.usable, found.limits["memory.max"], found.limits["memory.high"], found.cgroup_kill):
    print(each.reason, each.remedy, sep=" -- ")
"""

LIMITER = """
import asyncio, os, sys
from pathlib import Path
from worker.cgroups.plugins import cgroups
from worker.core.model.job import new_job_id
from worker.core.model.limits import ResourceLimits

async def scenario():
    limiter = cgroups({}, Path(sys.argv[1]))
    scope = await limiter.prepare(new_job_id(), ResourceLimits(pids=5), os.getpid())
    other = cgroups({}, Path(sys.argv[1]))
    print(scope.placement.unified)
    print(Path(scope.placement.unified, "cgroup.kill").exists(), list(scope.warnings))
    found = await other.reopen(new_job_id(), scope.placement)
    print(found is not None, Path(sys.argv[1], "worker-cgroup2").is_mount())
    await limiter.close()
    print(Path(scope.placement.unified).is_dir())
    await scope.remove()
    await limiter.close()
    print(list(Path(sys.argv[1]).iterdir()))

asyncio.run(scenario())
"""


def output_on(host: str, code: str, *arguments: str) -> list[str]:
    """Return the output of Python on such a host, as lines."""
    command = ["unshare", "-m", "sh", "-c", f'{host}\nexec "$@"', "sh", sys.executable, "-c", code]
    return subprocess.run(
        [*command, *arguments], check=True, capture_output=True, text=True
    ).stdout.splitlines()


def test_pure_v1_enforces_limits_and_reports_what_is_missing() -> None:
    """Without a unified hierarchy there is no cgroup.kill; the remedy is to mount one."""
    lines = output_on(PURE_V1, DOCTOR)
    assert "v1 True True False True" == lines[0]
    assert lines[4].startswith("there is no usable cgroup v2 hierarchy -- mount one")


def test_read_only_hierarchies_are_reported() -> None:
    """As in most containers; being root does not help."""
    lines = output_on(READ_ONLY, DOCTOR)
    assert "hybrid False False False False" == lines[0]
    assert "is mounted read-only -- mount the cgroup file system writable" in lines[1]


def test_host_without_cgroups_enforces_nothing() -> None:
    """Every limit reports the reason and the remedy."""
    lines = output_on(NO_CGROUPS, DOCTOR)
    assert "none False False False False" == lines[0]
    assert lines[1].startswith("no cgroup file system is mounted -- ")
    assert lines[1] == lines[2]


WRONG_SETTING = """
import sys
from pathlib import Path
from worker.cgroups.plugins import cgroups
try:
    cgroups({"parent": "/"}, Path(sys.argv[1]))
except ValueError:
    print(list(Path(sys.argv[1]).iterdir()))
"""


def test_nothing_stays_mounted_for_a_limiter_with_invalid_settings(tmp_path: Path) -> None:
    """An invalid setting on pure v1 changes nothing."""
    assert ["[]"] == output_on(PURE_V1, WRONG_SETTING, str(tmp_path))


def test_pure_v1_gets_a_private_unified_hierarchy(tmp_path: Path) -> None:
    """Mounted in the state directory while in use, reused by the next server, unmounted at the end."""
    place, kill, shared, during, after = output_on(PURE_V1, LIMITER, str(tmp_path))
    assert place.startswith(f"{tmp_path}/worker-cgroup2/worker-")
    assert ("True []", "True True", "True", "[]") == (kill, shared, during, after)
