"""Contexts: what is kept, what is refused, and what a failure leaves."""

import os
from pathlib import Path

import pytest

from worker.client import contexts
from worker.client.errors import SettingsError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the contexts of a new user."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "worker"


def contents(pki: Path, role: str = "writer") -> tuple[bytes, bytes, bytes]:
    """Return CA, certificate and key."""
    return tuple((pki / name).read_bytes() for name in ("ca.crt", f"{role}.crt", f"{role}.key"))  # type: ignore[return-value]


def everything(directory: Path) -> dict[Path, bytes]:
    """Return all files."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_new_user() -> None:
    """There is no context, and the current one is that of WORKER_HOME."""
    assert ([], "default") == (contexts.names(), contexts.current())


def test_a_context_is_kept(pki: Path, config: Path) -> None:
    """Its server and its files are found again, and only this user can read them, whatever the umask."""
    before = os.umask(0)
    try:
        contexts.add("prod", ["[::1]:7443"], *contents(pki))
        contexts.use("prod")
    finally:
        os.umask(before)
    found = contexts.load("prod")
    certificate, key = found.own
    assert "[::1]:7443" == str(found.server)
    assert contents(pki) == (found.ca.read_bytes(), certificate.read_bytes(), key.read_bytes())
    assert {0o600} == {path.stat().st_mode & 0o777 for path in everything(config)}
    assert 0o700 == found.directory.stat().st_mode & 0o777
    assert (["prod"], "prod") == (contexts.names(), contexts.current())


def test_a_replaced_context(pki: Path, config: Path) -> None:
    """Another set takes its place only on request, and nothing of the old one is left."""
    contexts.add("prod", ["a:1"], *contents(pki))
    with pytest.raises(SettingsError, match="the context prod exists"):
        contexts.add("prod", ["b:1"], *contents(pki, "reader"))
    contexts.add("prod", ["b:1"], *contents(pki, "reader"), force=True)
    assert "b:1" == str(contexts.load("prod").server)
    assert {"servers", "ca.crt", "client.crt", "client.key"} == {path.name for path in everything(config)}
    assert ["prod"] == os.listdir(config / "contexts")


def test_a_removed_context(pki: Path, config: Path) -> None:
    """Its key is gone; the current one is not removed."""
    contexts.add("prod", ["a:1"], *contents(pki))
    contexts.use("prod")
    with pytest.raises(SettingsError, match="prod is the current context; leave it first"):
        contexts.remove("prod")
    contexts.use("default")
    contexts.remove("prod")
    assert ["current"] == os.listdir(config / "contexts")
    for use in (contexts.load, contexts.use, contexts.remove):
        with pytest.raises(SettingsError, match="there is no context named prod; `worker context list`"):
            use("prod")


@pytest.mark.parametrize(
    ("name", "servers", "role", "reason"),
    [
        ("default", ["a:1"], "writer", "default is the server of WORKER_HOME"),
        ("", ["a:1"], "writer", "is no name of a context"),
        ("..", ["a:1"], "writer", "is no name of a context"),
        ("a/b", ["a:1"], "writer", "is no name of a context"),
        ("x" * 64, ["a:1"], "writer", "is no name of a context"),
        ("current", ["a:1"], "writer", "is no name of a context"),
        ("x", [], "writer", "context x needs a server"),
        ("x", ["a"], "writer", "context x: a: write HOST:PORT"),
        ("x", ["a\nb:1"], "writer", "an address has no blanks"),
        ("x", ["a:1"], "reader", "context x: the key client.key does not belong to the certificate"),
    ],
)
def test_what_is_refused(
    pki: Path, config: Path, name: str, servers: list[str], role: str, reason: str
) -> None:
    """The error names the problem, and nothing is changed."""
    contexts.add("other", ["a:1"], *contents(pki))
    before = everything(config)
    ca, certificate, _ = contents(pki)
    with pytest.raises(SettingsError, match=reason):
        contexts.add(name, servers, ca, certificate, contents(pki, role)[2], force=True)
    assert before == everything(config)
    assert ["other"] == os.listdir(config / "contexts")


def test_a_directory_that_cannot_be_written(pki: Path, config: Path) -> None:
    """The error names it."""
    config.touch()
    with pytest.raises(SettingsError, match=f"cannot change {config}"):
        contexts.add("x", ["a:1"], *contents(pki))
