"""Notification of renames: only of the file, and not of a write in place."""

import asyncio
from pathlib import Path

import pytest

from worker.linux.kernel.renames import RenameWatch


async def test_only_a_rename_to_the_name_is_reported(tmp_path: Path) -> None:
    """Writes, creation, deletion, a rename away and renames to other names are not reported."""
    file, new = tmp_path / "policy.toml", tmp_path / "new"
    file.write_text("1")
    seen: list[str] = []
    renamed = asyncio.Event()
    watch = RenameWatch(str(file), lambda: (seen.append(file.read_text()), renamed.set()))
    file.write_text("2")
    file.rename(tmp_path / "policy.toml~")  # as an editor does before it writes a new file
    file.write_text("3")
    (tmp_path / "other").write_text("4")
    (tmp_path / "other").rename(tmp_path / "policy.toml.old")
    file.unlink()
    new.write_text("5")
    new.rename(file)
    async with asyncio.timeout(60):
        await renamed.wait()
    assert ["5"] == seen
    watch.close()


async def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    """It cannot be watched, and nothing is left open."""
    with pytest.raises(FileNotFoundError):
        RenameWatch(str(tmp_path / "nosuch" / "file"), lambda: None)
