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
def test_unknown_setting_is_rejected_with_the_valid_ones(factory: Factory, tmp_path: Path) -> None:
    """The message helps to correct a typing error."""
    with pytest.raises(ValueError, match="unknown parnt; valid: parent, accounting"):
        factory({"parnt": "x"}, tmp_path)


@factories
def test_setting_of_a_wrong_type_is_rejected(factory: Factory, tmp_path: Path) -> None:
    """A number is not silently converted to a name."""
    with pytest.raises(ValueError, match="5 is not a string"):
        factory({"parent": 5}, tmp_path)


@factories
def test_unknown_accounting_is_rejected_with_the_valid_ones(factory: Factory, tmp_path: Path) -> None:
    """The message lists what can be set."""
    with pytest.raises(ValueError, match="unknown accounting 'some'; valid: full, limits-only"):
        factory({"accounting": "some"}, tmp_path)


@factories
def test_setting_that_leads_out_of_the_base_is_rejected(factory: Factory, tmp_path: Path) -> None:
    """Auto does not hide an invalid setting by running without limits."""
    with pytest.raises(ValueError, match="is not the name of a control group"):
        factory({"parent": "../../other"}, tmp_path)


def test_none_has_no_settings(tmp_path: Path) -> None:
    """Any setting is rejected."""
    with pytest.raises(ValueError, match="unknown parent; there are no settings"):
        plugins.none({"parent": "x"}, tmp_path)


def test_none_is_of_kind_none(tmp_path: Path) -> None:
    """The spawner knows from the kind that there is no placement."""
    assert PlacementKind.NONE == plugins.none({}, tmp_path).kind


def test_auto_falls_back_and_logs_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a host without cgroups jobs still run, and the log states what is missing."""
    monkeypatch.setattr("worker.cgroups.plugins.detect", lambda _: Hierarchy({}))
    assert PlacementKind.NONE == plugins.auto({}, tmp_path).kind
    assert [True] == ["cannot create control groups" in message for message in caplog.messages]


def test_default_parent_depends_on_the_state_directory(tmp_path: Path) -> None:
    """Two paths of one directory give one parent; another directory gives another."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert plugins.default_parent(tmp_path) == plugins.default_parent(link)
    assert plugins.default_parent(tmp_path) != plugins.default_parent(tmp_path / "other")
