"""Adapters, found by their entry points.

An entry point names a factory: ``factory(settings: Mapping[str, object], state_dir: Path) -> port``, with
the settings of the adapter and an absolute path for its state. docs/how-to/adapters.md shows how to write
one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from ..core.errors import WorkerError
from ..core.ports import OutputStore, ProcessSpawner, ResourceLimiter
from .setting_types import Plugin
from .terminal.console import Failure

Port = TypeVar("Port")


@dataclass(frozen=True, slots=True)
class PluginGroup(Generic[Port]):
    """All adapters for one port. ``noun`` is the word for such an adapter in messages."""

    entry_points: str
    noun: str
    members: tuple[str, ...]

    def make(self, plugin: Plugin, state_dir: Path) -> Port:
        """Return a new adapter; raise Failure if none has that name or it cannot be made."""
        about = f"{self.noun} {plugin.name!r}"
        factory = self._factory(plugin.name)
        try:
            made = factory(plugin.settings, state_dir)
        except (WorkerError, OSError, ValueError) as error:
            raise Failure(f"{about}: {error}") from error
        except Exception as error:  # code of another distribution
            raise Failure(f"{about}: {type(error).__name__}: {error}") from error
        if missing := [member for member in self.members if not hasattr(made, member)]:
            raise Failure(
                f"{about}: the factory returned {type(made).__name__} without {', '.join(missing)}"
            )
        return made

    def _factory(self, name: str) -> Callable[[Mapping[str, object], Path], Port]:
        found = entry_points(group=self.entry_points)
        named = tuple(found.select(name=name))
        if not named:
            names = ", ".join(sorted(found.names))
            raise Failure(f"there is no {self.noun} {name!r}; valid: {names}")
        if len(named) > 1:
            owners = ", ".join(sorted(each.dist.name for each in named if each.dist))
            raise Failure(f"{self.noun} {name!r} is registered by several distributions: {owners}")
        try:
            factory: Callable[[Mapping[str, object], Path], Port] = named[0].load()
        except Exception as error:  # code of another distribution
            raise Failure(
                f"{self.noun} {name!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        return factory


def _members(port: type) -> tuple[str, ...]:
    return tuple(name for name in vars(port) if not name.startswith("_"))


SPAWNERS: PluginGroup[ProcessSpawner] = PluginGroup("worker.spawners", "spawner", _members(ProcessSpawner))
LIMITERS: PluginGroup[ResourceLimiter] = PluginGroup(
    "worker.limiters", "limiter", _members(ResourceLimiter)
)
OUTPUT_STORES: PluginGroup[OutputStore] = PluginGroup(
    "worker.output_stores", "output store", _members(OutputStore)
)
