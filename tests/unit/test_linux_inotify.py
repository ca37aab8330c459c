"""How followers are notified: one watch per followed directory, polling where there can be none."""

import asyncio
import os
import resource
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from worker.linux.output import inotify
from worker.linux.output.inotify import DirectoryWatch, Inotify


def watches(instance: Inotify) -> int:
    """Return the number of watches in the kernel (proc(5), fdinfo)."""
    return Path(f"/proc/self/fdinfo/{instance._fd}").read_text().count("inotify wd:")


async def woken(watch: DirectoryWatch) -> None:
    """Wait for a change; fail instead of waiting forever."""
    await asyncio.wait_for(watch.changed(), 60)


async def test_one_watch_per_followed_directory_and_none_without_followers(tmp_path: Path) -> None:
    """The number of followers does not matter; one instance serves all directories."""
    directories = [tmp_path / name for name in "ab"]
    for directory in directories:
        directory.mkdir()

    instance = Inotify(ignored="stdin.")
    async with AsyncExitStack() as followers:
        for directory in directories * 10:
            await followers.enter_async_context(instance.watch(directory))
        assert 2 == watches(instance)
    assert 0 == watches(instance)
    instance.close()


@pytest.mark.parametrize("how", ["write", "touch", "create"])
async def test_every_kind_of_change_notifies(tmp_path: Path, how: str) -> None:
    """Written bytes, a new segment, and the times that the recorder sets on older kernels."""
    file = tmp_path / "output-0"
    file.touch()

    instance = Inotify(ignored="stdin.")
    async with instance.watch(tmp_path) as watch, instance.watch(tmp_path) as other:
        if how == "write":
            file.write_bytes(b"x")
        elif how == "touch":
            os.utime(file)
        else:
            (tmp_path / "output-1").touch()
        await woken(watch)
        await woken(other)
    instance.close()


async def test_ignored_files_do_not_notify(tmp_path: Path) -> None:
    """Input of a job does not wake the followers of its output."""
    instance = Inotify(ignored="stdin.")
    async with instance.watch(str(tmp_path)) as watch:
        (tmp_path / "stdin.spool").write_bytes(b"x")
        changed = asyncio.ensure_future(watch.changed())
        instance._read()
        await asyncio.sleep(0)
        assert not changed.done()
        (tmp_path / "output-0").write_bytes(b"x")
        await asyncio.wait_for(changed, 60)
    instance.close()


async def test_a_directory_that_cannot_be_watched_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that does not exist yet; followers are notified of changes, and the poller ends."""
    monkeypatch.setattr(inotify, "_POLL_INTERVAL", 0.001)
    monkeypatch.setattr(Inotify, "_add", lambda *_: -1)
    directory = tmp_path / "later"

    instance = Inotify(ignored="stdin.")
    async with instance.watch(directory) as watch, instance.watch(directory) as other:
        waiting = asyncio.ensure_future(woken(watch))
        directory.mkdir()
        (directory / "output-0").write_bytes(b"x")
        await waiting
        await woken(other)
        poller = instance._poller
    assert poller is not None
    await poller
    instance.close()


async def test_polling_resumes_after_a_shortage_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without descriptors there is no inotify instance, and polling fails too."""
    monkeypatch.setattr(inotify, "_POLL_INTERVAL", 0.001)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    instance = Inotify(ignored="stdin.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        watching = instance.watch(tmp_path)
        watch = await watching.__aenter__()
        for _ in range(3):
            await asyncio.sleep(0.001)  # polls fail
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (tmp_path / "output-0").write_bytes(b"x")
    await woken(watch)
    await watching.__aexit__(None, None, None)
    instance.close()


async def test_a_directory_that_is_deleted_and_created_again_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watch is removed with it: followers are notified of that, and of later writes."""
    monkeypatch.setattr(inotify, "_POLL_INTERVAL", 0.001)
    directory = tmp_path / "job"
    directory.mkdir()

    instance = Inotify(ignored="stdin.")
    async with instance.watch(directory) as watch, instance.watch(directory) as other:
        directory.rmdir()
        await woken(watch)
        await woken(other)
        directory.mkdir()
        (directory / "output-0").write_bytes(b"x")
        await woken(watch)
        await woken(other)
        poller = instance._poller
    assert poller is not None
    await poller
    assert ({}, {}) == (instance._watches, instance._directories)
    instance.close()
