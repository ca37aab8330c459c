"""Fixtures: a whole worker, or a part of one, with a separate state directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from ..support.cgroups import parents_of
from ..support.fixtures import Install, install, installation, pki, until
from ..support.followed import Until
from ..support.generations import Machine
from ..support.installation import Installation, installing
from ..support.mounts import small_file_system

if TYPE_CHECKING:
    from ..support.stock import Stock

__all__ = ["install", "installation", "pki", "until"]


@pytest.fixture(scope="module")
def module_install(pki: Path) -> Iterator[Install]:
    """A function that creates installations for all tests of a module."""
    with installing(pki) as create:
        yield create


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, module_install: Install) -> Installation:
    """A running worker for all tests of a module that do not change it."""
    installation = module_install(tmp_path_factory.mktemp("shared") / "home")
    installation.worker("up")
    return installation


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, shared: Installation, pki: Path) -> Iterator["Stock"]:
    """A stock gRPC client of the shared worker."""
    from ..support.stock import Stock, stubs  # needs grpcio, which the guest does not have

    with stubs(tmp_path_factory.mktemp("stubs")) as modules:
        yield Stock((shared.home / "address").read_text().strip(), pki, *modules)


@pytest.fixture
def machine(tmp_path: Path, until: Until) -> Iterator[Machine]:
    """A state directory; at the end, wait until its supervisors have ended."""
    machine = Machine(tmp_path / "state", until)
    yield machine
    machine.await_supervisors(0)


@pytest.fixture
def parent() -> Iterator[str]:
    """A unique name for a parent cgroup; at the end, assert that the cgroup was removed."""
    name = f"worker-test-{uuid4().hex[:8]}"
    yield name
    assert [] == [place for place in parents_of(name) if place.exists()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB. Request this fixture before those that use it."""
    with small_file_system(tmp_path / "disk", 6) as path:
        yield path
