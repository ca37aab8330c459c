"""What can be set about the server: one table, from which options, variables and the file's keys follow.

A setting comes from, in this order: its option, its WORKER_* variable, the TOML file, the default.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import click

from ..api.bounds import Bounds
from ..core.engine.retention import Retention
from ..core.model.limits import LimitPolicy
from .home import DEFAULT_PORT
from .options.address import Address
from .options.limit_policy import chosen_policy, policy_options, read_policy
from .options.parameters import (
    ADDRESS,
    COUNT,
    DURATION,
    OUTPUT_MAX,
    SIZE,
    Parsed,
    option_name,
    server_option,
)
from .terminal.console import Failure

Command = TypeVar("Command", bound=Callable[..., object])
Value = TypeVar("Value")

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Plugin:
    """An adapter: the name it is registered under, and its own settings."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _parse_path(text: str) -> Path:
    return Path(text).absolute()


def _parse_log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ValueError(f"no such level; use {', '.join(LOG_LEVELS)}")
    return text


def _positive(kind: Parsed) -> Parsed:
    """Return the kind without its zero."""

    def parse(text: str) -> object:
        value = kind.parse(text)
        if not value:
            raise ValueError("must be more than 0")
        return value

    return Parsed(kind.name, parse)


def _unlimited(kind: Parsed) -> Parsed:
    """Return the kind with a word for no bound at all."""
    return Parsed(kind.name, lambda text: inf if text in {"unlimited", str(inf)} else kind.parse(text))


_FILE = Parsed("FILE", _parse_path)
_PLUGIN = Parsed("NAME", Plugin)
_LEVEL = Parsed("LEVEL", _parse_log_level)
_BOUNDS = Bounds()
_RETENTION = Retention()


def _about(kind: Parsed, meaning: str, default: str | None = None) -> Mapping[str, object]:
    return {"kind": kind, "help": meaning, "default": default}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The table. Durations are in seconds; a file that is None lies in WORKER_HOME/pki.

    ``limits`` are no single option but one per limit.
    """

    listen: Address = field(
        default=Address("127.0.0.1", DEFAULT_PORT),
        metadata=_about(ADDRESS, "Where to serve; port 0 takes a free one."),
    )
    tls_ca: Path | None = field(
        default=None, metadata=_about(_FILE, "CA of the clients, else pki/ca.crt in WORKER_HOME.")
    )
    tls_cert: Path | None = field(
        default=None, metadata=_about(_FILE, "The server's certificate, else pki/server.crt.")
    )
    tls_key: Path | None = field(
        default=None, metadata=_about(_FILE, "The server's key, else pki/server.key.")
    )
    spawner: Plugin = field(
        default=Plugin("supervisor"), metadata=_about(_PLUGIN, "What starts and ends processes.")
    )
    limiter: Plugin = field(
        default=Plugin("auto"),
        metadata=_about(_PLUGIN, "What enforces limits; auto: control groups where they can be written."),
    )
    output_store: Plugin = field(
        default=Plugin("recorder"), metadata=_about(_PLUGIN, "What keeps the output of jobs.")
    )
    output_max: int = field(
        default=0,
        metadata=_about(OUTPUT_MAX, "Output to keep at most of a job that does not say, as 10M; 0: all."),
    )
    shutdown_grace: float = field(
        default=10.0, metadata=_about(DURATION, "How long calls may take to end at shutdown.")
    )
    max_streams: int = field(
        default=_BOUNDS.max_streams,
        metadata=_about(_positive(COUNT), "The most streams of output at a time."),
    )
    max_streams_per_client: int = field(
        default=_BOUNDS.max_streams_per_client,
        metadata=_about(_positive(COUNT), "The most that one certificate's name has of them."),
    )
    stalled_client_timeout: float = field(
        default=_BOUNDS.stalled_client_timeout,
        metadata=_about(_positive(DURATION), "How long a stream waits for a client that does not read."),
    )
    keepalive_time: float = field(
        default=_BOUNDS.keepalive_time,
        metadata=_about(_positive(DURATION), "How often a client is asked whether it is still there."),
    )
    keepalive_timeout: float = field(
        default=_BOUNDS.keepalive_timeout,
        metadata=_about(_positive(DURATION), "How long its answer may take."),
    )
    retention_age: float = field(
        default=_RETENTION.age,
        metadata=_about(_unlimited(DURATION), "How long a finished job is kept, or unlimited.", "7d"),
    )
    retention_jobs: float = field(
        default=_RETENTION.jobs,
        metadata=_about(_unlimited(COUNT), "How many of them, or unlimited; then the oldest go."),
    )
    retention_bytes: float = field(
        default=_RETENTION.bytes,
        metadata=_about(_unlimited(SIZE), "How much output of them in all, or unlimited.", "10G"),
    )
    log_level: str = field(default="info", metadata=_about(_LEVEL, f"One of {', '.join(LOG_LEVELS)}."))
    limits: LimitPolicy = field(default_factory=LimitPolicy)

    @property
    def retention(self) -> Retention:
        """What is kept of finished jobs."""
        return Retention(self.retention_age, self.retention_jobs, self.retention_bytes)


_SETTINGS = {each.name: each for each in fields(ServerSettings) if each.metadata}

_SECTIONS = ("output", "retention")
"""Tables of a file whose keys are settings too: ``[output] max`` is ``output_max``."""


def settings_options(command: Command) -> Command:
    """Give a command one option per setting, and --config."""
    command = policy_options(command)
    for each in reversed(_SETTINGS.values()):
        default = each.metadata["default"] or each.default
        if isinstance(default, float):
            default = f"{default:g}s"
        meaning = each.metadata["help"] + ("" if default is None else f"  [default: {default}]")
        command = server_option(each.name, each.metadata["kind"], meaning)(command)
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
        envvar="WORKER_CONFIG",
        show_envvar=True,
        help="TOML file: the same settings, and tables for limits and for the settings of an adapter.",
    )(command)


def arguments(options: Mapping[str, object]) -> list[str]:
    """Return the options that were given, as they are written."""
    written: list[str] = []
    for name, value in options.items():
        if isinstance(value, tuple) and not isinstance(value, Address):
            for device, limit in value:
                written += [option_name(name), f"{device}={limit}"]
        elif value is not None:
            written += [option_name(name), str(value)]
    return written


def resolve(options: Mapping[str, object], config: Path | None) -> ServerSettings:
    """Return the settings; an option that was not given is None. Raises Failure, naming file and key."""
    in_file = _read(config) if config is not None else _Settings()
    chosen = dict(in_file.values)
    for name in _SETTINGS:
        option = options.get(name)
        if option is not None and not _repeats(option, chosen.get(name)):
            chosen[name] = option
    # Each was parsed by its own field's parser.
    return ServerSettings(**chosen, limits=chosen_policy(options, in_file.limits))  # type: ignore[arg-type]


def _repeats(option: object, in_file: object) -> bool:
    """Whether an option names the same adapter as the file, so that the file's table still holds."""
    return isinstance(option, Plugin) and isinstance(in_file, Plugin) and option.name == in_file.name


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a file sets."""

    values: Mapping[str, object] = field(default_factory=dict)
    limits: LimitPolicy = field(default_factory=LimitPolicy)


def _read(config: Path) -> _Settings:
    import tomllib  # noqa: PLC0415 - loaded only where there is a file

    try:
        return _understand(tomllib.loads(config.read_text()))
    except OSError as error:
        raise Failure(f"cannot read {config}: {error.strerror}") from None
    except ValueError as error:  # also of UTF-8 and TOML
        raise Failure(f"{config}: {error}") from None


def _understand(table: dict[str, object]) -> _Settings:
    limits = _about_key("limits", read_policy, table.pop("limits", {}))
    for section in _SECTIONS:
        keys = table.pop(section, {})
        if not isinstance(keys, dict):
            raise ValueError(f"{section}: write a table")  # noqa: TRY004 - one error for all that is wrong
        table |= {f"{section}_{key}": value for key, value in keys.items()}
    for key in table:
        if key not in _SETTINGS:
            raise ValueError(f"unknown setting {key!r}; there are {', '.join(_SETTINGS)}, limits")
    values = {
        key: _about_key(key, partial(_from_file, _SETTINGS[key]), value) for key, value in table.items()
    }
    return _Settings(values, limits)


def _about_key(key: str, understand: Callable[[object], Value], value: object) -> Value:
    """Return what a value means; an error names its key."""
    try:
        return understand(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _from_file(setting: "Field[Any]", value: object) -> object:
    """Take ``limiter = "cgroups"`` and ``[limiter] name = "cgroups"`` with further keys for the adapter."""
    kind: Parsed = setting.metadata["kind"]
    if kind is _PLUGIN and isinstance(value, dict):
        name = value.pop("name", setting.default.name)
        if not isinstance(name, str):
            raise ValueError("name is no text")
        return Plugin(name, value)
    return kind.from_file(value, setting.name)
