"""Where the settings of a client come from."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from worker.cli.home import Home
from worker.cli.server_address import record_address
from worker.client import contexts
from worker.client.address import Address
from worker.client.errors import SettingsError
from worker.client.settings import ClientSettings, connect

ENVIRONMENT = {
    "WORKER_SERVER": "env:1",
    "WORKER_CA": "/env/ca",
    "WORKER_CERT": "/env/cert",
    "WORKER_KEY": "/env/key",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WORKER_HOME with a server, and the contexts `this` and `other`."""
    for name in (*ENVIRONMENT, "WORKER_CONTEXT", "WORKER_RECONNECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("WORKER_HOME", str(tmp_path / "home"))
    shutil.copytree(pki, tmp_path / "home" / "pki")
    record_address(Home(tmp_path / "home"), Address("home", 1))
    files = [(pki / name).read_bytes() for name in ("ca.crt", "reader.crt", "reader.key")]
    for name in ("this", "other"):
        contexts.add(name, [f"{name}:1"], *files)
    return tmp_path / "home"


def selected(settings: ClientSettings) -> tuple[str, set[str]]:
    """Return the server, and the places of the files."""
    found = settings._selected()
    return found.server.host, {path.parent.name for path in (found.ca, found.cert, found.key)}


@pytest.mark.parametrize(
    ("settings", "environment", "current", "expected"),
    [
        (ClientSettings(), {}, "default", ("home", {"pki"})),
        (ClientSettings(), {}, "this", ("this", {"this"})),
        (ClientSettings(), {"WORKER_CONTEXT": "other"}, "this", ("other", {"other"})),
        (ClientSettings(), {"WORKER_CONTEXT": "default"}, "this", ("home", {"pki"})),
        (ClientSettings(context="default"), {"WORKER_CONTEXT": "other"}, "this", ("home", {"pki"})),
        (ClientSettings(), ENVIRONMENT, "this", ("env", {"env"})),
        (ClientSettings(context="other"), ENVIRONMENT, "this", ("other", {"other"})),
        (ClientSettings(Address("given", 1)), ENVIRONMENT, "this", ("given", {"env"})),
        (ClientSettings(Address("given", 1)), {}, "this", ("given", {"this"})),
        (ClientSettings(), {"WORKER_SERVER": "env:1"}, "this", ("env", {"this"})),
        (ClientSettings(Address("given", 1), context="other"), {}, "this", ("given", {"other"})),
        (ClientSettings(ca=Path("/x/ca")), {}, "default", ("home", {"x", "pki"})),
    ],
)
def test_the_first_place_that_has_a_setting(
    monkeypatch: pytest.MonkeyPatch,
    settings: ClientSettings,
    environment: Mapping[str, str],
    current: str,
    expected: tuple[str, set[str]],
) -> None:
    """Arguments, variables, context, WORKER_HOME; a context that is an argument replaces the variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    contexts.use(current)
    assert expected == selected(settings)


async def test_missing_keys(home: Path) -> None:
    """The error names the file that is missing, and what helps."""
    shutil.rmtree(home / "pki")
    with pytest.raises(SettingsError, match=r"no readable key at .*writer.key; `worker up` creates keys"):
        async with connect():
            pass


async def test_a_missing_context() -> None:
    """The error names the context."""
    with pytest.raises(SettingsError, match="there is no context named nowhere"):
        async with connect(context="nowhere"):
            pass


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"WORKER_SERVER": "nowhere"}, "WORKER_SERVER nowhere: write HOST:PORT"),
        ({"WORKER_RECONNECT": "soon"}, "WORKER_RECONNECT soon: not a duration"),
        ({"WORKER_CERT": "/x"}, "certificate and key must be given together"),
        ({"WORKER_CA": "/nowhere/ca"}, "cannot read /nowhere/ca: No such file or directory"),
    ],
)
async def test_variables_that_are_not_valid(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], reason: str
) -> None:
    """The error names the variable or the file."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=reason):
        async with connect():
            pass


def test_arguments_that_are_not_valid() -> None:
    """They are refused at once."""
    with pytest.raises(SettingsError, match="server nowhere: write HOST:PORT"):
        connect("nowhere")
    for seconds in (-1, float("nan")):
        with pytest.raises(SettingsError, match="not a number of seconds"):
            connect(reconnect=seconds)


def test_how_long_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument comes before WORKER_RECONNECT, which is a duration; 60 s by default."""
    assert 60 == ClientSettings().patience
    monkeypatch.setenv("WORKER_RECONNECT", "1m30s")
    assert 90 == ClientSettings().patience
    assert 0 == ClientSettings(reconnect=0).patience


def test_a_user_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no context, and the server of WORKER_HOME is used."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert ("home", {"pki"}) == selected(ClientSettings())
