"""The blocks of every page are run in their order, in one shell, and print what the page shows."""

import os
from pathlib import Path

import pytest

from worker.linux.kernel.procfs import command_line

from ..support.fixtures import Install
from ..support.page_session import PageSession
from ..support.pages import ROOT, RUN, blocks, pages
from ..support.waiting import wait_until

RUNNABLE = {
    str(page.relative_to(ROOT)): page
    for page in pages()
    if any(block.kind in RUN and block.excuse is None for block in blocks(page.read_text()))
}


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_blocks_of_a_page(name: str, install: Install, tmp_path: Path) -> None:
    """Each command succeeds, or fails as the page shows, and prints what the page shows."""
    directory = tmp_path / "work"
    directory.mkdir()
    installation = install(tmp_path / "home")
    with PageSession(installation.env, directory) as session:
        for block in blocks(RUNNABLE[name].read_text()):
            session.run(block)
    wait_until(lambda: not any(os.fsencode(directory) in command_line(pid) for pid in processes()))


def processes() -> list[int]:
    """Return all processes; a program of a page may leave a supervisor, which ends after two seconds."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
