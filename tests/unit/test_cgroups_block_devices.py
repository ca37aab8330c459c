"""The block device of a name, on a directory posing as /sys and on the paths of this machine."""

from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cgroups.block_devices import (
    device_number,
    disks,
    is_stacked,
    on_devices,
    with_devices,
)
from worker.core.errors import HostUnresponsive, InvalidJobSpec
from worker.core.look_up import runner
from worker.core.model.limits import IoLimit, ResourceLimits

NO_DEVICE = "is neither a block device nor on the file system of one; use /dev/DISK or MAJ:MIN (see lsblk)"


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """Pose as /sys with a disk of two partitions, LVM on one of them, and an empty loop device."""
    files = {
        "devices/vda/dev": "254:0\n",
        "devices/vda/size": "1000\n",
        "devices/vda/vda1/dev": "254:1\n",
        "devices/vda/vda1/partition": "1\n",
        "devices/vda/vda2/dev": "254:2\n",
        "devices/vda/vda2/partition": "2\n",
        "devices/dm-0/dev": "253:0\n",
        "devices/dm-0/size": "500\n",
        "devices/dm-0/slaves/vda2": "",
        "devices/loop0/dev": "7:0\n",
        "devices/loop0/size": "0\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    numbers = {
        "254:0": "vda",
        "254:1": "vda/vda1",
        "254:2": "vda/vda2",
        "253:0": "dm-0",
        "7:0": "loop0",
    }
    for folder in ("dev/block", "block"):
        (tmp_path / folder).mkdir(parents=True)
    for number, name in numbers.items():
        (tmp_path / "dev/block" / number).symlink_to(tmp_path / "devices" / name)
    for name in ("vda", "dm-0", "loop0"):
        (tmp_path / "block" / name).symlink_to(tmp_path / "devices" / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"), [("254:0", "254:0"), ("254:2", "254:0"), ("253:0", "253:0"), ("0254:01", "254:0")]
)
def test_a_partition_resolves_to_its_disk_and_a_mapped_device_to_itself(
    sys: Path, name: str, expected: str
) -> None:
    """The kernel limits whole devices; LVM and dm are whole devices."""
    assert expected == device_number(name, sys)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("9:9", "limits.io: there is no block device 9:9; see lsblk"),
        ("vda", "limits.io: 'vda' is neither MAJ:MIN nor an absolute path"),
        ("1:2:3", "limits.io: '1:2:3' is neither MAJ:MIN nor an absolute path"),
        ("/dev/nosuch", f"limits.io: /dev/nosuch {NO_DEVICE}"),
        ("/dev/zero", f"limits.io: /dev/zero {NO_DEVICE}"),
        ("/dev/zero/x", f"limits.io: /dev/zero/x {NO_DEVICE}"),
        ("/proc/1", "limits.io: /proc/1 is on proc, which is not a block device; use MAJ:MIN of the disk"),
    ],
)
def test_other_names_are_rejected_with_the_reason(sys: Path, name: str, reason: str) -> None:
    """The error contains the invalid name."""
    with pytest.raises(InvalidJobSpec) as error:
        device_number(name, sys)
    assert str(error.value).startswith(reason)


def test_the_error_does_not_say_whether_there_is_a_file(sys: Path, tmp_path: Path) -> None:
    """It is the same for a file without a disk, one that cannot be reached, and nothing."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/proc/1")
    (tmp_path / "loop").symlink_to("loop")
    names = [f"{tmp_path}/{each}" for each in ("no", "link", "loop", "file/x", "x" * 300, "a\0b")]
    assert 1 == len({reason(sys, name).replace(name, "NAME") for name in names})
    assert reason(sys, "/proc/1").replace("/1", "") == reason(sys, "/proc/nosuch").replace("/nosuch", "")


def reason(sys: Path, name: str) -> str:
    """Return why a name is no device."""
    with pytest.raises(InvalidJobSpec) as error:
        device_number(name, sys)
    return str(error.value)


async def test_a_path_is_looked_up_in_the_threads_of_its_client() -> None:
    """It may be on a file system that does not respond, which must not keep the threads of all."""

    async def unresponsive(_: object) -> NoReturn:
        raise HostUnresponsive(5)

    runner.set(unresponsive)
    with pytest.raises(HostUnresponsive):
        await with_devices(ResourceLimits(io=(IoLimit("/", read_bytes_per_second=1),)))


def test_limits_of_one_disk_are_merged(sys: Path) -> None:
    """A disk may be named twice, by a partition or itself, for different limits."""
    limits = [
        IoLimit("254:1", read_bytes_per_second=1),
        IoLimit("253:0", write_bytes_per_second=5),
        IoLimit("254:2", read_bytes_per_second=1, write_bytes_per_second=2),
    ]
    expected = (
        IoLimit("254:0", read_bytes_per_second=1, write_bytes_per_second=2),
        IoLimit("253:0", write_bytes_per_second=5),
    )
    assert expected == on_devices(limits, sys)


def test_two_rates_for_one_disk_are_rejected_with_both_names(sys: Path) -> None:
    """The conflict is reported, not resolved silently."""
    limits = [IoLimit("254:1", read_bytes_per_second=1), IoLimit("254:0", read_bytes_per_second=2)]
    with pytest.raises(
        InvalidJobSpec,
        match="254:1 and 254:0 are one device, 254:0, with two values for read_bytes_per_second",
    ):
        on_devices(limits, sys)


def test_only_disks_with_a_size_are_listed(sys: Path) -> None:
    """A loop device without a file counts nothing."""
    assert ["253:0", "254:0"] == disks(sys)


def test_a_device_on_top_of_others_is_stacked(sys: Path) -> None:
    """Its I/O is counted again on the devices below."""
    names = ("253:0", "254:0", "9:9")
    assert (True, False, False) == tuple(is_stacked(name, sys) for name in names)


@given(st.text(max_size=20))
def test_any_text_is_a_device_or_rejected(text: str) -> None:
    """No other error is ever raised."""
    try:
        number = device_number(text)
    except InvalidJobSpec:
        return
    assert all(part.isdecimal() for part in number.split(":"))
