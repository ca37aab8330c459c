"""The entry points of the group ``worker.limiters``: cgroups, none and auto."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from cattrs import Converter, ForbiddenExtraKeysError

from ..core.errors import LimitsUnsupported
from ..core.host.unit_names import worker_name
from ..core.ports import ResourceLimiter
from .accounting import Accounting
from .hierarchy.detection import detect
from .hierarchy.private_mount import MOUNT_NAME, unmount, with_unified
from .limiter import CgroupLimiter
from .none import NoLimiter

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CgroupSettings:
    """``parent``: path of the worker's own cgroup below each base; by default from the state directory.

    ``accounting``: how much is counted of each job.
    """

    parent: str | None = None
    accounting: Accounting = Accounting.FULL


@dataclass(frozen=True, slots=True)
class NoSettings:
    """No settings."""


_Settings = TypeVar("_Settings", CgroupSettings, NoSettings)


def cgroups(settings: Mapping[str, object], state_dir: Path) -> ResourceLimiter:
    """Return the limiter on cgroups.

    Raises LimitsUnsupported where no cgroup can be created, ValueError for invalid settings.
    """
    chosen = _structure(settings, CgroupSettings)
    parent = chosen.parent or default_parent(state_dir)
    try:
        return CgroupLimiter(
            parent, lambda process: with_unified(detect(process), state_dir), chosen.accounting
        )
    except (LimitsUnsupported, ValueError):
        unmount(state_dir / MOUNT_NAME)
        raise


def none(settings: Mapping[str, object], state_dir: Path) -> ResourceLimiter:  # noqa: ARG001 - a plug-in's signature
    """Return the limiter that refuses all limits; raise ValueError for any setting."""
    _structure(settings, NoSettings)
    return NoLimiter('the worker is configured to use none (limiter = "none" in its settings)')


def auto(settings: Mapping[str, object], state_dir: Path) -> ResourceLimiter:
    """Return the limiter on cgroups where they can be created, otherwise the one without cgroups."""
    try:
        return cgroups(settings, state_dir)
    except LimitsUnsupported as error:
        _log.warning("jobs run without control groups and limits: %s", error)
        return NoLimiter(str(error))


def default_parent(state_dir: Path) -> str:
    """Return a name that two workers share only if they share their state."""
    return worker_name(state_dir.resolve())


def _structure(settings: Mapping[str, object], into: type[_Settings]) -> _Settings:
    try:
        return _converter.structure(settings, into)
    except ForbiddenExtraKeysError as error:
        unknown = ", ".join(sorted(error.extra_fields))
        raise ValueError(f"limiter settings: unknown {unknown}; {_known_keys(into)}") from None


def _known_keys(settings: type[CgroupSettings] | type[NoSettings]) -> str:
    names = ", ".join(field.name for field in fields(settings))
    return f"valid: {names}" if names else "there are no settings"


def _text(value: object, _: type[str]) -> str:
    if not isinstance(value, str):
        raise ValueError(f"limiter settings: {value!r} is not a string")  # noqa: TRY004 - one error for all invalid settings
    return value


def _accounting(value: object, _: type[Accounting]) -> Accounting:
    try:
        return Accounting(value)  # type: ignore[arg-type] # anything from the file
    except ValueError:
        names = ", ".join(Accounting)
        raise ValueError(f"limiter settings: unknown accounting {value!r}; valid: {names}") from None


# Without this hook cattrs would accept any value and use str(value).
_converter = Converter(forbid_extra_keys=True, detailed_validation=False)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(Accounting, _accounting)
