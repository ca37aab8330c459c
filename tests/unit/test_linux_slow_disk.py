"""When the main thread leaves writes to another thread."""

import time

from worker.linux.kernel.slow_disk import SlowDisk


def test_a_write_that_waits() -> None:
    """The disk is slow after a long write during which the thread waited."""
    disk = SlowDisk()
    assert not disk.is_slow
    disk.begin()
    time.sleep(0.03)  # waits as a write does
    disk.end()
    assert disk.is_slow


def test_a_write_that_only_computes() -> None:
    """A thread that was busy or preempted says nothing about the disk; a later short wait neither."""
    disk = SlowDisk()
    disk.begin()
    until = time.thread_time() + 0.03
    while time.thread_time() < until:
        pass
    disk.end()
    disk.begin()
    time.sleep(0.0001)
    disk.end()
    assert not disk.is_slow
