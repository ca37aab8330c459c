"""Selection of adapters by name."""

from pathlib import Path

import pytest

from worker.cli.plugins import LIMITERS, OUTPUT_STORES, SPAWNERS
from worker.cli.settings import Plugin
from worker.cli.terminal.console import Failure
from worker.core.ports import PlacementKind


def test_built_in_adapters_are_found(tmp_path: Path) -> None:
    """The built-in adapters are found by their entry points, like third-party ones."""
    assert PlacementKind.NONE == LIMITERS.make(Plugin("none"), tmp_path).kind


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (SPAWNERS.make, "there is no spawner 'x'; there are supervisor"),
        (LIMITERS.make, "there is no limiter 'x'; there are auto, cgroups, none"),
        (OUTPUT_STORES.make, "there is no output store 'x'; there are recorder"),
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
