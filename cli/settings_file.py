"""The TOML file of the settings: keys of the tables of settings, and the tables of limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..core.model.limits import LimitBounds
from .options.limit_bounds import read_limits
from .setting_types import PLUGIN, Plugin, Setting
from .terminal.console import Failure

Value = TypeVar("Value")

_SECTIONS = ("output", "retention")
"""Tables of a file whose keys are settings: ``[output] max`` is ``output_max``."""


@dataclass(frozen=True, slots=True)
class SettingsInFile:
    """The settings in a file."""

    values: Mapping[str, object] = field(default_factory=dict)
    limits: LimitBounds = field(default_factory=LimitBounds)


def read_settings(config: Path, table: Mapping[str, Setting]) -> SettingsInFile:
    """Return the settings in a file, which are rows of the table. Raises Failure, naming file and key."""
    import tomllib  # noqa: PLC0415 - loaded only where there is a file

    try:
        return _parse(tomllib.loads(config.read_text()), table)
    except OSError as error:
        raise Failure(f"cannot read {config}: {error.strerror}") from None
    except ValueError as error:  # also from the decoders of UTF-8 and TOML
        raise Failure(f"{config}: {error}") from None


def _parse(found: dict[str, object], table: Mapping[str, Setting]) -> SettingsInFile:
    limits = _with_key("limits", read_limits, found.pop("limits", {}))
    for section in _SECTIONS:
        keys = found.pop(section, {})
        if not isinstance(keys, dict):
            raise ValueError(f"{section}: write a table")  # noqa: TRY004 - one error for everything in a file
        found |= {f"{section}_{key}": value for key, value in keys.items()}
    for key in found:
        if key not in table:
            raise ValueError(f"unknown setting {key!r}; valid: {', '.join(table)}, limits")
    values = {
        key: _with_key(key, partial(_from_file, key, table[key]), value) for key, value in found.items()
    }
    return SettingsInFile(values, limits)


def _with_key(key: str, parse: Callable[[object], Value], value: object) -> Value:
    """Return the parsed value; a ValueError names the key."""
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _from_file(key: str, setting: Setting, value: object) -> object:
    """Parse ``limiter = "cgroups"``, or a table ``[limiter]`` with ``name`` and the adapter's settings."""
    if setting.kind is PLUGIN and isinstance(value, dict):
        name = value.pop("name", str(setting.default))
        if not isinstance(name, str):
            raise ValueError("name is not a string")
        return Plugin(name, value)
    return setting.kind.from_file(value, key)
