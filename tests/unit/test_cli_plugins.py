"""Selection of adapters by name."""

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.cli.plugins import LIMITERS, OUTPUT_STORES, SPAWNERS
from worker.cli.setting_types import Plugin
from worker.cli.terminal.console import Failure
from worker.core.ports import PlacementKind


def test_built_in_adapters_are_found(tmp_path: Path) -> None:
    """The built-in adapters are found by their entry points, like third-party ones."""
    assert PlacementKind.NONE == LIMITERS.make(Plugin("none"), tmp_path).kind


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (SPAWNERS.make, "there is no spawner 'x'; valid: supervisor"),
        (LIMITERS.make, "there is no limiter 'x'; valid: auto, cgroups, none"),
        (OUTPUT_STORES.make, "there is no output store 'x'; valid: recorder"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(tmp_path: Path, make: object, message: str) -> None:
    """The error for an unknown name lists the valid names."""
    assert callable(make)
    with pytest.raises(Failure) as refused:
        make(Plugin("x"), tmp_path)
    assert message == str(refused.value)


def test_wrong_settings_name_the_adapter(tmp_path: Path) -> None:
    """The error of an adapter that rejects its settings names the adapter."""
    with pytest.raises(Failure, match=r"limiter 'none': .*unknown speed"):
        LIMITERS.make(Plugin("none", {"speed": 1}), tmp_path)


Register = Callable[..., None]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """A function that installs a distribution with one output store, made by this code."""
    monkeypatch.syspath_prepend(tmp_path)

    def register(store: str, code: str, distribution: str = "third_party") -> None:
        (tmp_path / f"{distribution}.py").write_text(code)
        information = tmp_path / f"{distribution}-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        text = f"[worker.output_stores]\n{store} = {distribution}:make\n"
        (information / "entry_points.txt").write_text(text)

    return register


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nowhere_to_be_found", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("", "cannot be loaded: AttributeError: "),
        ("def make(settings, state_dir): raise ValueError('no disk')", ": no disk"),
        ("def make(settings, state_dir): return settings['size']", ": KeyError: 'size'"),
        ("def make(settings, state_dir): return None", "the factory returned NoneType without .*sweep"),
    ],
)
def test_what_is_wrong_with_a_third_party_adapter(
    register: Register, tmp_path: Path, code: str, reason: str
) -> None:
    """The error names the adapter and the reason, whatever its code raises or returns."""
    distribution = f"wrong_{zlib.crc32(code.encode())}"  # a module is imported once in a process
    register("wrong", code, distribution)
    with pytest.raises(Failure, match=f"^output store 'wrong'.*{reason}"):
        OUTPUT_STORES.make(Plugin("wrong"), tmp_path)


def test_a_name_that_two_distributions_register(register: Register, tmp_path: Path) -> None:
    """The error names both: the server does not choose one of them."""
    for distribution in ("one", "two"):
        register("twice", "", distribution)
    with pytest.raises(Failure, match="'twice' is registered by several distributions: one, two"):
        OUTPUT_STORES.make(Plugin("twice"), tmp_path)
