"""The factories that the entry points name: spawner ``supervisor``, output store ``recorder``."""

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
    """Return the spawner ``supervisor``; ValueError for any setting."""
    if settings:
        raise ValueError(f"unknown {', '.join(sorted(settings))}; there are no settings")
    return SupervisorSpawner(state_dir)


def recorder(settings: Mapping[str, object], state_dir: Path) -> RecorderStore:
    """Return the output store ``recorder``; ValueError for unknown or invalid settings."""
    try:
        chosen = Converter(forbid_extra_keys=True, detailed_validation=False).structure(
            settings, RecorderSettings
        )
    except ForbiddenExtraKeysError as error:
        raise ValueError(f"unknown {', '.join(sorted(error.extra_fields))}; valid: segment_size") from None
    if chosen.segment_size < PIPE_SIZE:
        raise ValueError(f"segment_size {chosen.segment_size}: must be {PIPE_SIZE} bytes or more")
    return RecorderStore(state_dir, segment_size=chosen.segment_size)
