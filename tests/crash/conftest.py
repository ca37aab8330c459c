"""A worker of which a test may kill any process at any moment."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..support.fixtures import install, installation, pki, until
from ..support.installation import assert_nothing_left, create_installation
from ..support.persistent_client import CheckedJob, Ledger
from ..support.restarting_installation import RestartingInstallation

__all__ = ["install", "installation", "pki", "restarting", "until"]


@pytest.fixture(scope="module")
def restarting_installation(
    tmp_path_factory: pytest.TempPathFactory, pki: Path
) -> Iterator[RestartingInstallation]:
    """A worker for all tests of a module; nothing is left after it."""
    home = tmp_path_factory.mktemp("restarting") / "home"
    restarting = RestartingInstallation(create_installation(home, pki))
    restarting.up()
    # Whatever is opened on first use is open from now on, and is not a leak.
    asyncio.run(Ledger(restarting).do_all([CheckedJob("first", 0)]))
    restarting.settle()
    yield restarting
    restarting.down()
    restarting.installation.down()
    assert_nothing_left(restarting.installation)


@pytest.fixture
def restarting(
    restarting_installation: RestartingInstallation, until: Callable[[Callable[[], bool]], None]
) -> Iterator[RestartingInstallation]:
    """That worker, without files or processes of earlier tests."""
    assert [] == restarting_installation.left_over(), "an earlier test has left something over"
    restarting_installation.runs.unlink(missing_ok=True)
    yield restarting_installation
    try:
        until(lambda: not restarting_installation.left_over())
    except AssertionError:
        pytest.fail(f"left over: {restarting_installation.left_over()}")
