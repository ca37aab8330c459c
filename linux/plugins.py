"""The factories that the entry points name: spawner ``supervisor``, output store ``recorder``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from cattrs import Converter, ForbiddenExtraKeysError

from .output.store import PIPE_SIZE, SEGMENT_SIZE, RecorderStore
from .spawner.plan import NoNewPrivs
from .spawner.spawner import SupervisorSpawner


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """``segment_size`` in bytes."""

    segment_size: int = SEGMENT_SIZE


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """``no_new_privs``: auto, always or never."""

    no_new_privs: NoNewPrivs = NoNewPrivs.AUTO


_Settings = TypeVar("_Settings", RecorderSettings, SupervisorSettings)


def supervisor(settings: Mapping[str, object], state_dir: Path) -> SupervisorSpawner:
    """Return the spawner ``supervisor``; ValueError for unknown or invalid settings."""
    chosen = _structured(settings, SupervisorSettings)
    return SupervisorSpawner(state_dir, no_new_privs=chosen.no_new_privs)


def recorder(settings: Mapping[str, object], state_dir: Path) -> RecorderStore:
    """Return the output store ``recorder``; ValueError for unknown or invalid settings."""
    chosen = _structured(settings, RecorderSettings)
    if chosen.segment_size < PIPE_SIZE:
        raise ValueError(f"segment_size {chosen.segment_size}: must be {PIPE_SIZE} bytes or more")
    return RecorderStore(state_dir, segment_size=chosen.segment_size)


def _structured(settings: Mapping[str, object], kind: type[_Settings]) -> _Settings:
    try:
        return Converter(forbid_extra_keys=True, detailed_validation=False).structure(settings, kind)
    except ForbiddenExtraKeysError as error:
        valid = ", ".join(each.name for each in fields(kind))
        raise ValueError(f"unknown {', '.join(sorted(error.extra_fields))}; valid: {valid}") from None
