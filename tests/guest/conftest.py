"""One guest for all tests, with the worker installed: cgroup v2 and systemd as PID 1."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .image import GuestUnavailableError, find_image
from .machine import Guest
from .payload import build, install


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A machine with the command `worker` and the tests of tests/integration."""
    directory = tmp_path_factory.mktemp("guest")
    try:
        image = find_image()
    except GuestUnavailableError as error:
        pytest.skip(f"no guest: {error}")
    with ThreadPoolExecutor() as pool:
        packages = pool.submit(build, directory, image.python)
        with Guest(image, directory) as machine:
            install(machine, packages.result(), image.python)
            yield machine
