"""Fixtures: the sdist, the wheels that are built from it, and a server that is installed from one."""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.fixtures import pki
from ..support.installation import assert_nothing_left, create_installation
from ..support.wheels import ROOT, Build, Environment, WheelInstallation, build

__all__ = ["pki"]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree in the sdist: without anything that has been compiled."""
    sdist = build(ROOT, tmp_path_factory.mktemp("sdist"), "--sdist").file
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return tree


@pytest.fixture(scope="session")
def no_compiler(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without any program on PATH."""
    return {"PATH": str(tmp_path_factory.mktemp("empty"))}


@pytest.fixture(scope="session")
def native(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The wheel for this machine, compiled by its C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("this machine has no C compiler")
    return build(source, tmp_path_factory.mktemp("native"), "--wheel")


@pytest.fixture(scope="session")
def client(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The wheel of the client."""
    return build(source, tmp_path_factory.mktemp("client"), "--wheel", WORKER_WHEEL="client")


@pytest.fixture(scope="session")
def environment(native: Build, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel for this machine."""
    return Environment(tmp_path_factory.mktemp("environment"), native.file)


@pytest.fixture(scope="session")
def server(
    environment: Environment, pki: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WheelInstallation]:
    """A server that was installed from the wheel for this machine."""
    home = tmp_path_factory.mktemp("server") / "home"
    create_installation(home, pki)
    installation = WheelInstallation(home, environment)
    installation.worker("up")
    yield installation
    installation.down()
    assert_nothing_left(installation)
