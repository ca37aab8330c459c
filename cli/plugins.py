"""Adapters, found by the name they are registered under (entry points).

A factory takes its own settings and the directory for its state:
``factory(settings: Mapping[str, object], state_dir: Path) -> port``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from ..core.errors import WorkerError
from ..core.ports import OutputStore, ProcessSpawner, ResourceLimiter
from .settings import Plugin
from .terminal.console import Failure

Port = TypeVar("Port")


@dataclass(frozen=True, slots=True)
class PluginGroup(Generic[Port]):
    """All adapters for one port: the group of entry points, and what a user calls one of them."""

    entry_points: str
    noun: str

    def make(self, plugin: Plugin, state_dir: Path) -> Port:
        """Return a new adapter; raise Failure if there is none of that name or it cannot be made."""
        factory = self._factory(plugin.name)
        try:
            return factory(plugin.settings, state_dir)
        except (WorkerError, OSError, ValueError, TypeError) as error:
            raise Failure(f"{self.noun} {plugin.name!r}: {error}") from error

    def _factory(self, name: str) -> Callable[[Mapping[str, object], Path], Port]:
        found = {each.name: each for each in entry_points(group=self.entry_points)}
        if name not in found:
            raise Failure(f"there is no {self.noun} {name!r}; there are {', '.join(sorted(found))}")
        try:
            factory: Callable[[Mapping[str, object], Path], Port] = found[name].load()
        except (ImportError, AttributeError) as error:
            raise Failure(f"{self.noun} {name!r} cannot be loaded: {error}") from error
        return factory


SPAWNERS: PluginGroup[ProcessSpawner] = PluginGroup("worker.spawners", "spawner")
LIMITERS: PluginGroup[ResourceLimiter] = PluginGroup("worker.limiters", "limiter")
OUTPUT_STORES: PluginGroup[OutputStore] = PluginGroup("worker.output_stores", "output store")
