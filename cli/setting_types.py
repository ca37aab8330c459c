"""What a row of the tables of settings has, and the types that only settings have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..cgroups.accounting import Accounting
from ..linux.logs.lines import FORMATS, LEVELS
from .options.parameters import Parsed


@dataclass(frozen=True, slots=True)
class Setting:
    """A row; ``shown_default`` is the default as the help shows it, if not as it is."""

    kind: Parsed
    help: str
    default: object
    shown_default: str | None = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """An adapter: the name of its entry point, and its own settings."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _parse_path(text: str) -> Path:
    return Path(text).absolute()


def _parse_log_level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f"unknown level; use {', '.join(LEVELS)}")
    return text


def _parse_log_format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f"unknown format; use {', '.join(FORMATS)}")
    return text


def _parse_accounting(text: str) -> Accounting:
    if text not in list(Accounting):
        raise ValueError(f"unknown accounting; use {' or '.join(Accounting)}")
    return Accounting(text)


FILE = Parsed("FILE", _parse_path)
PLUGIN = Parsed("NAME", Plugin)
USER = Parsed("USER[:GROUP]", str)
ACCOUNTING = Parsed("LEVEL", _parse_accounting)
LEVEL = Parsed("LEVEL", _parse_log_level)
FORMAT = Parsed("FORMAT", _parse_log_format)
