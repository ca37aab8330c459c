"""What the entry points of this package name: adapters made from settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cattrs import Converter, ForbiddenExtraKeysError

from .output.store import PIPE_SIZE, SEGMENT_SIZE, RecorderStore
from .spawner.spawner import SupervisorSpawner


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """``segment_size`` in bytes."""

    segment_size: int = SEGMENT_SIZE


def supervisor(settings: Mapping[str, object], state_dir: Path) -> SupervisorSpawner:
    """Make the spawner ``supervisor``; ValueError for any setting."""
    if settings:
        raise ValueError(f"the spawner has no settings, but was given {', '.join(sorted(settings))}")
    return SupervisorSpawner(state_dir)


def recorder(settings: Mapping[str, object], state_dir: Path) -> RecorderStore:
    """Make the output store ``recorder``; ValueError for settings that are none or wrong."""
    try:
        chosen = Converter(forbid_extra_keys=True, detailed_validation=False).structure(
            settings, RecorderSettings
        )
    except ForbiddenExtraKeysError as error:
        raise ValueError(
            f"unknown {', '.join(sorted(error.extra_fields))}; there is segment_size"
        ) from None
    if chosen.segment_size < PIPE_SIZE:
        raise ValueError(f"segment_size {chosen.segment_size}: a segment holds at least {PIPE_SIZE} bytes")
    return RecorderStore(state_dir, segment_size=chosen.segment_size)
