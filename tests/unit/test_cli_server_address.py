"""The server's address: parsing, the default, and the recorded one."""

from pathlib import Path

import pytest

from worker.cli.home import Home
from worker.cli.server_address import record_address
from worker.client.address import Address, default_address, parse_address


def test_the_address_is_recorded(tmp_path: Path) -> None:
    """Clients use the recorded address, and the default address before there is one."""
    home = Home(tmp_path)
    assert Address("localhost", 7443) == default_address(home)
    record_address(home, Address("::1", 1234))
    assert Address("::1", 1234) == default_address(home)
    record_address(home, Address("0.0.0.0", 1234))
    assert Address("127.0.0.1", 1234) == default_address(home)


@pytest.mark.parametrize("text", ["127.0.0.1:7443", "[::1]:0", "host.example:65535"])
def test_addresses_survive_parsing(text: str) -> None:
    """A parsed address is written as it was."""
    assert text == str(parse_address(text))


@pytest.mark.parametrize(
    "text", ["", "7443", ":7443", "host", "host:", "host:x", "host:65536", "host:-1", "::1:7443"]
)
def test_invalid_addresses(text: str) -> None:
    """An incomplete address is rejected."""
    with pytest.raises(ValueError, match=r"HOST:PORT|port|brackets"):
        parse_address(text)
