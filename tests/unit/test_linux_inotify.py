"""How followers are woken: one watch per followed directory, looks where there can be none."""

import asyncio
import os
import resource
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from worker.linux.output import inotify
from worker.linux.output.inotify import Inotify


def watches(instance: Inotify) -> int:
    """Return how many watches the kernel keeps (proc(5), fdinfo)."""
    return Path(f"/proc/self/fdinfo/{instance._fd}").read_text().count("inotify wd:")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run it, but not for ever."""
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_one_watch_per_followed_directory_and_none_when_nobody_follows(tmp_path: Path) -> None:
    """However many follow the same one; one instance for all."""
    directories = [tmp_path / name for name in "ab"]
    for directory in directories:
        directory.mkdir()

    async def scenario() -> None:
        instance = Inotify()
        async with AsyncExitStack() as followers:
            for directory in directories * 10:
                await followers.enter_async_context(instance.watch(directory))
            assert 2 == watches(instance)
        assert 0 == watches(instance)
        instance.close()

    run(scenario())


@pytest.mark.parametrize("how", ["write", "touch", "create"])
def test_every_kind_of_change_wakes(tmp_path: Path, how: str) -> None:
    """Bytes written, a new segment, and the times by which the recorder tells of them on older kernels."""
    file = tmp_path / "output-0"
    file.touch()

    async def scenario() -> None:
        instance = Inotify()
        async with instance.watch(tmp_path) as watch, instance.watch(tmp_path) as other:
            if how == "write":
                file.write_bytes(b"x")
            elif how == "touch":
                os.utime(file)
            else:
                (tmp_path / "output-1").touch()
            await watch.changed()
            await other.changed()
        instance.close()

    run(scenario())


def test_a_directory_that_cannot_be_watched_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is not there yet; who follows is woken when it has changed, and the looking ends."""
    monkeypatch.setattr(inotify, "_BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr(Inotify, "_add", lambda *_: -1)
    directory = tmp_path / "later"

    async def scenario() -> None:
        instance = Inotify()
        async with instance.watch(directory) as watch, instance.watch(directory) as other:
            waiting = asyncio.ensure_future(watch.changed())
            directory.mkdir()
            (directory / "output-0").write_bytes(b"x")
            await waiting
            await other.changed()
            looking = instance._looking
        assert looking is not None
        await looking
        instance.close()

    run(scenario())


def test_looks_go_on_after_a_time_without_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of descriptors there is no instance, and neither is there one to look with."""
    monkeypatch.setattr(inotify, "_BETWEEN_LOOKS", 0.001)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario() -> None:
        instance = Inotify()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            watching = instance.watch(tmp_path)
            watch = await watching.__aenter__()
            for _ in range(3):
                await asyncio.sleep(0.001)  # looks in vain
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        (tmp_path / "output-0").write_bytes(b"x")
        await watch.changed()
        await watching.__aexit__(None, None, None)
        instance.close()

    run(scenario())


def test_a_directory_that_is_deleted_and_made_anew_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watch went with it: who follows is told of that, and of what is written later."""
    monkeypatch.setattr(inotify, "_BETWEEN_LOOKS", 0.001)
    directory = tmp_path / "job"
    directory.mkdir()

    async def scenario() -> None:
        instance = Inotify()
        async with instance.watch(directory) as watch, instance.watch(directory) as other:
            directory.rmdir()
            await watch.changed()
            await other.changed()
            directory.mkdir()
            (directory / "output-0").write_bytes(b"x")
            await watch.changed()
            await other.changed()
            looking = instance._looking
        assert looking is not None
        await looking
        assert ({}, {}) == (instance._watches, instance._directories)
        instance.close()

    run(scenario())
