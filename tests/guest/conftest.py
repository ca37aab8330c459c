"""One guest for all tests, with the worker installed: cgroup v2 and systemd as PID 1."""

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .image import GuestUnavailableError, Image, find_image
from .machine import Guest
from .payload import Payload, build


@pytest.fixture(scope="session")
def image() -> Image:
    """What the guests boot from."""
    try:
        return find_image()
    except GuestUnavailableError as error:
        pytest.skip(f"no guest: {error}")


@pytest.fixture(scope="session")
def payload(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Future[Payload]"]:
    """The packages for a guest, which are built while it boots."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit(build, tmp_path_factory.mktemp("payload"), image.python)


@pytest.fixture(scope="session")
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The network between two guests."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture(scope="session")
def guest(
    image: Image,
    payload: "Future[Payload]",
    wire: tuple[socket.socket, socket.socket],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guest]:
    """A machine with the command `worker` and the tests of tests/integration."""
    with Guest(image, tmp_path_factory.mktemp("guest"), wire, end=0) as machine:
        payload.result().install(machine)
        payload.result().install_tests(machine)
        yield machine
