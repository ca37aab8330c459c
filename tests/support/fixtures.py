"""Fixtures that more than one suite uses; a conftest.py imports them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .installation import Installation, installing
from .waiting import wait_until

Install = Callable[[Path], Installation]


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """A function that waits until a condition is true."""
    return wait_until


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for all tests; generating keys is slow."""
    home = tmp_path_factory.mktemp("pki")
    Installation(home).worker("certs", "init", "--key-type", "p256")
    return home / "pki"


@pytest.fixture
def install(pki: Path) -> Iterator[Install]:
    """A function that creates installations, not started, in the given directories."""
    with installing(pki) as create:
        yield create


@pytest.fixture
def installation(tmp_path: Path, install: Install) -> Installation:
    """A running worker for one test."""
    installation = install(tmp_path / "home")
    installation.worker("up")
    return installation
