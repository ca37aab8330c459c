"""Writing limits: in order, and all or none."""

from pathlib import Path

import pytest

from worker.cgroups.group import Group
from worker.cgroups.hierarchy.hierarchy import Version
from worker.cgroups.settings import Setting, enforce, replace
from worker.core.errors import LimitsRejected


@pytest.fixture
def group(tmp_path: Path) -> Group:
    """Pose as a group with three files, of which a write replaces the first characters only."""
    for name, text in (("a", "1\n"), ("b", "2\n"), ("devices", "254:0 7\n")):
        (tmp_path / name).write_text(text)
    return Group(tmp_path, Version.V2)


def texts(group: Group) -> tuple[str, ...]:
    """Return what the files say."""
    return tuple(group.text(name) for name in ("a", "b", "devices"))


def test_new_group_gets_what_is_asked_for_only(group: Group) -> None:
    """It has no limits that would have to be lifted."""
    enforce([Setting(group, "a", 5, "max"), Setting(group, "b", None, "max")])
    assert ("5\n", "2\n", "254:0 7\n") == texts(group)


def test_replacing_lifts_what_is_not_asked_for(group: Group) -> None:
    """None is no limit, in the kernel's own word."""
    replace([Setting(group, "a", None, "max"), Setting(group, "b", None, "-1")])
    assert ("max", "-1", "254:0 7\n") == texts(group)


def test_what_the_kernel_cannot_limit_needs_no_lifting(group: Group) -> None:
    """A file that is not there is in the way of a limit only."""
    replace([Setting(group, "missing", None, "max")])
    assert ("1\n", "2\n", "254:0 7\n") == texts(group)


def test_a_refusal_sets_back_what_was_written(group: Group) -> None:
    """The limits are as they were, also those that have a line per device."""
    settings = [
        Setting(group, "a", 5, "max"),
        Setting(group, "devices", 9, "0", device="254:0"),
        Setting(group, "missing", 1, "max"),
        Setting(group, "b", 6, "max"),
    ]
    with pytest.raises(LimitsRejected, match="missing: No such file or directory, writing '1'"):
        replace(settings)
    assert ("1\n", "2\n", "254:0 7\n") == texts(group)


def test_device_without_a_line_is_set_back_to_no_limit(group: Group) -> None:
    """The kernel shows only devices that are limited."""
    with pytest.raises(LimitsRejected):
        replace([Setting(group, "devices", 9, "0", device="111:0"), Setting(group, "missing", 1, "max")])
    assert "111:0 0\n" == group.text("devices")


def test_what_is_so_already_is_not_written(group: Group) -> None:
    """On v1 each write of CPUs has the kernel compute its scheduling domains anew."""
    replace([Setting(group, "a", 1, "max"), Setting(group, "devices", 7, "0", device="254:0")])
    assert ("1\n", "2\n", "254:0 7\n") == texts(group)
