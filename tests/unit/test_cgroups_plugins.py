"""The entry points: settings, default parent, and the choice of auto."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from worker.cgroups import plugins
from worker.cgroups.hierarchy.hierarchy import Hierarchy
from worker.core.ports import PlacementKind, ResourceLimiter

Factory = Callable[[Mapping[str, object], Path], ResourceLimiter]

factories = pytest.mark.parametrize("factory", [plugins.cgroups, plugins.auto])


@factories
def test_unknown_setting_names_the_right_ones(factory: Factory, tmp_path: Path) -> None:
    """A typing error is found and can be mended at once."""
    with pytest.raises(ValueError, match="unknown parnt; there is parent"):
        factory({"parnt": "x"}, tmp_path)


@factories
def test_setting_of_a_wrong_type_is_refused(factory: Factory, tmp_path: Path) -> None:
    """A number is not silently made a name."""
    with pytest.raises(ValueError, match="5 is not a string"):
        factory({"parent": 5}, tmp_path)


@factories
def test_setting_that_leads_out_is_refused(factory: Factory, tmp_path: Path) -> None:
    """Auto does not hide a mistake by having no limits."""
    with pytest.raises(ValueError, match="is not the name of a control group"):
        factory({"parent": "../../other"}, tmp_path)


def test_none_has_no_settings(tmp_path: Path) -> None:
    """There is nothing to name."""
    with pytest.raises(ValueError, match="unknown parent; there are none to set"):
        plugins.none({"parent": "x"}, tmp_path)


def test_none_is_of_kind_none(tmp_path: Path) -> None:
    """The spawner learns that there is no place."""
    assert PlacementKind.NONE == plugins.none({}, tmp_path).kind


def test_auto_falls_back_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a host without control groups jobs run all the same, and the log tells what is missing."""
    monkeypatch.setattr("worker.cgroups.plugins.detect", lambda _: Hierarchy({}))
    assert PlacementKind.NONE == plugins.auto({}, tmp_path).kind
    assert [True] == ["no control group can be made" in message for message in caplog.messages]


def test_default_parent_is_that_of_the_state_directory(tmp_path: Path) -> None:
    """The same directory by another name is the same worker; another directory is another one."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert plugins.default_parent(tmp_path) == plugins.default_parent(link)
    assert plugins.default_parent(tmp_path) != plugins.default_parent(tmp_path / "other")
