"""Writing limits: in order, and all or none."""

from pathlib import Path

import pytest

from worker.cgroups.cgroup import Cgroup
from worker.cgroups.hierarchy.hierarchy import Version
from worker.cgroups.rollback import replace_all
from worker.cgroups.settings import Setting, write_new
from worker.core.errors import LimitsRejected


@pytest.fixture
def cgroup(tmp_path: Path) -> Cgroup:
    """Pose as a cgroup with three files; a write replaces only the first characters."""
    for name, text in (("a", "1\n"), ("b", "2\n"), ("devices", "254:0 7\n")):
        (tmp_path / name).write_text(text)
    return Cgroup(tmp_path, Version.V2)


def texts(cgroup: Cgroup) -> tuple[str, ...]:
    """Return the content of the files."""
    return tuple(cgroup.text(name) for name in ("a", "b", "devices"))


def test_new_cgroup_gets_only_the_requested_limits(cgroup: Cgroup) -> None:
    """It has no limits that would have to be lifted."""
    write_new([Setting(cgroup, "a", 5, "max"), Setting(cgroup, "b", None, "max")])
    assert ("5\n", "2\n", "254:0 7\n") == texts(cgroup)


def test_replacing_lifts_limits_that_are_not_requested(cgroup: Cgroup) -> None:
    """None is no limit, written in the kernel's word for it."""
    replace_all([Setting(cgroup, "a", None, "max"), Setting(cgroup, "b", None, "-1")])
    assert ("max", "-1", "254:0 7\n") == texts(cgroup)


def test_missing_file_needs_no_lifting(cgroup: Cgroup) -> None:
    """A file that does not exist is an error only if there is a limit to write."""
    replace_all([Setting(cgroup, "missing", None, "max")])
    assert ("1\n", "2\n", "254:0 7\n") == texts(cgroup)


def test_a_rejected_write_rolls_back_the_others(cgroup: Cgroup) -> None:
    """All limits are restored, including those with a line per device."""
    settings = [
        Setting(cgroup, "a", 5, "max"),
        Setting(cgroup, "devices", 9, "0", device="254:0"),
        Setting(cgroup, "missing", 1, "max"),
        Setting(cgroup, "b", 6, "max"),
    ]
    with pytest.raises(LimitsRejected, match="missing: No such file or directory, writing '1'"):
        replace_all(settings)
    assert ("1\n", "2\n", "254:0 7\n") == texts(cgroup)


def test_device_without_a_line_is_restored_to_no_limit(cgroup: Cgroup) -> None:
    """The kernel shows only devices with a limit."""
    with pytest.raises(LimitsRejected):
        replace_all(
            [Setting(cgroup, "devices", 9, "0", device="111:0"), Setting(cgroup, "missing", 1, "max")]
        )
    assert "111:0 0\n" == cgroup.text("devices")


def test_unchanged_value_is_not_written(cgroup: Cgroup) -> None:
    """In v1 each write of CPUs makes the kernel rebuild its scheduling domains."""
    replace_all([Setting(cgroup, "a", 1, "max"), Setting(cgroup, "devices", 7, "0", device="254:0")])
    assert ("1\n", "2\n", "254:0 7\n") == texts(cgroup)
