"""A worker that a test may kill in any of its parts, at any moment."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..integration.conftest import (
    _assert_nothing_left,
    _install,
    install,
    installation,
    pki,
    until,
)
from ..support.persistent_client import CheckedJob, Ledger
from ..support.restarting_installation import RestartingInstallation

__all__ = ["install", "installation", "operated", "pki", "until"]


@pytest.fixture(scope="module")
def operated_worker(
    tmp_path_factory: pytest.TempPathFactory, pki: Path
) -> Iterator[RestartingInstallation]:
    """A worker for all tests of a module; nothing is left after it."""
    operated = RestartingInstallation(_install(tmp_path_factory.mktemp("operated") / "home", pki))
    operated.up()
    # What is made when it is first needed is there from now on, and no leak.
    asyncio.run(Ledger(operated).do_all([CheckedJob("first", 0)]))
    operated.settle()
    yield operated
    operated.down()
    operated.installation.down()
    _assert_nothing_left(operated.installation)


@pytest.fixture
def operated(
    operated_worker: RestartingInstallation, until: Callable[[Callable[[], bool]], None]
) -> Iterator[RestartingInstallation]:
    """That worker, without a trace of what other tests have run."""
    assert [] == operated_worker.left_over(), "an earlier test has spoilt it"
    operated_worker.runs.unlink(missing_ok=True)
    yield operated_worker
    try:
        until(lambda: not operated_worker.left_over())
    except AssertionError:
        pytest.fail(f"left over: {operated_worker.left_over()}")
