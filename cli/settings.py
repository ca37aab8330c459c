"""The settings of the server: one table, from which options, variables and keys of the file are derived.

The value of a setting is, in this order: its option, its WORKER_* variable, the TOML file, the default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

import click

from ..api.bounds import Bounds
from ..cgroups.accounting import Accounting
from ..client.address import Address
from ..core.engine.job_bounds import JobBounds
from ..core.engine.retention import Retention
from ..core.model.limits import LimitBounds
from ..linux.kernel.rlimits import most_jobs
from ..linux.logs.lines import FORMATS, LEVELS
from .audit_settings import AUDIT_SETTINGS, AuditSettings
from .bound_settings import BOUND_SETTINGS
from .options.limit_bounds import chosen_limits, limit_bound_options
from .options.parameters import (
    ADDRESS,
    COUNT,
    DURATION,
    OUTPUT_MAX,
    SIZE,
    SWITCH,
    Parsed,
    option_name,
    positive,
    server_option,
    unlimited,
)
from .server_address import DEFAULT_LISTEN
from .setting_types import (
    ACCOUNTING,
    FILE,
    FORMAT,
    LEVEL,
    PLUGIN,
    USER,
    Plugin,
    Setting,
)
from .settings_file import SettingsInFile, read_settings

Command = TypeVar("Command", bound=Callable[..., object])


_OUTPUT_MAX = 1 << 30
MOST_JOBS = 4096
"""The default of ``max_jobs`` where there are enough descriptors."""

_RETENTION = Retention()


def _setting(kind: Parsed, help_text: str, default: str | None = None) -> Mapping[str, object]:
    """Return the metadata of a field; ``default`` is the default as the help shows it."""
    return {"kind": kind, "help": help_text, "default": default}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The table. Durations are in seconds; a file that is None is in WORKER_HOME/pki.

    ``limits`` has an option for each limit, ``bounds`` and ``auditing`` have one for each of their
    fields.
    """

    listen: Address = field(
        default=DEFAULT_LISTEN,
        metadata=_setting(ADDRESS, "Address to listen at; port 0: any free port."),
    )
    tls_ca: Path | None = field(
        default=None, metadata=_setting(FILE, "CA of the clients, by default pki/ca.crt in WORKER_HOME.")
    )
    tls_cert: Path | None = field(
        default=None, metadata=_setting(FILE, "Certificate of the server, by default pki/server.crt.")
    )
    tls_key: Path | None = field(
        default=None, metadata=_setting(FILE, "Key of the server, by default pki/server.key.")
    )
    tls_crl: Path | None = field(
        default=None,
        metadata=_setting(FILE, "CRLs of the CAs of clients, by default pki/ca.crl if it exists."),
    )
    tls_denied: Path | None = field(
        default=None,
        metadata=_setting(
            FILE, "Serials of certificates that are denied, by default pki/denied if it exists."
        ),
    )
    policy: Path | None = field(
        default=None,
        metadata=_setting(FILE, "Rules for clients, see docs/how-to/policy.md; without it, roles decide."),
    )
    default_user: str | None = field(
        default=None,
        metadata=_setting(USER, "User of jobs without --user, by default that of the server."),
    )
    reflection: bool = field(
        default=False,
        metadata=_setting(
            SWITCH,
            "Whether the server has reflection: grpcurl and similar tools then need no .proto file.",
            "no",
        ),
    )
    spawner: Plugin = field(
        default=Plugin("supervisor"), metadata=_setting(PLUGIN, "Adapter that starts and stops processes.")
    )
    limiter: Plugin = field(
        default=Plugin("auto"),
        metadata=_setting(
            PLUGIN, "Adapter that enforces limits; auto: control groups if they are writable."
        ),
    )
    accounting: Accounting = field(
        default=Accounting.FULL,
        metadata=_setting(
            ACCOUNTING,
            "What is counted of each job: full, or limits-only: memory, and what has a limit.",
        ),
    )
    output_store: Plugin = field(
        default=Plugin("recorder"), metadata=_setting(PLUGIN, "Adapter that stores the output of jobs.")
    )
    output_max: int | None = field(
        default=None,
        metadata=_setting(
            OUTPUT_MAX,
            "Output to keep of jobs without --output-max, such as 10M, or all.",
            "1G; of another output store than `recorder`: all",
        ),
    )
    output_total: float = field(
        default=_RETENTION.bytes,
        metadata=_setting(
            unlimited(SIZE),
            "Output to keep of all jobs, or unlimited: the oldest are removed, then running jobs wait.",
            "10G",
        ),
    )
    reserve: int = field(
        default=64 << 20,
        metadata=_setting(
            SIZE, "Disk space kept for the ends of jobs and for the audit log; 0: none.", "64M"
        ),
    )
    signal_all: bool = field(
        default=False,
        metadata=_setting(
            SWITCH,
            "Whether a stop signals every process of a job at once, not the main process first.",
            "no",
        ),
    )
    shutdown_grace: float = field(
        default=10.0, metadata=_setting(DURATION, "Time for calls to end at shutdown.")
    )
    max_jobs: int | None = field(
        default=None,
        metadata=_setting(
            positive(COUNT),
            "Maximum number of running jobs.",
            f"as many as descriptors allow, at most {MOST_JOBS}",
        ),
    )
    max_jobs_per_client: int | None = field(
        default=None,
        metadata=_setting(
            positive(COUNT), "Maximum for one client (name and issuer of its certificate).", "max_jobs"
        ),
    )
    max_job_memory: float = field(
        default=256 << 20,
        metadata=_setting(
            unlimited(SIZE),
            "Memory for commands, environments and labels of jobs that run or ended within two minutes.",
            "256M",
        ),
    )
    max_job_memory_per_client: float = field(
        default=64 << 20,
        metadata=_setting(unlimited(SIZE), "Maximum for one client.", "64M"),
    )
    retention_age: float = field(
        default=_RETENTION.age,
        metadata=_setting(unlimited(DURATION), "How long finished jobs are kept, or unlimited.", "7d"),
    )
    retention_jobs: float = field(
        default=_RETENTION.jobs,
        metadata=_setting(
            unlimited(COUNT), "How many finished jobs are kept, or unlimited; the oldest are removed."
        ),
    )
    retention_memory: float = field(
        default=_RETENTION.memory,
        metadata=_setting(
            unlimited(SIZE),
            "Memory for commands, environments and labels of finished jobs; the oldest are removed.",
            "128M",
        ),
    )
    log_format: str = field(
        default="text", metadata=_setting(FORMAT, f"Format of the log: {' or '.join(FORMATS)}.")
    )
    log_level: str = field(
        default="info", metadata=_setting(LEVEL, f"Level of the log: {', '.join(LEVELS)}.")
    )
    bounds: Bounds = field(default_factory=Bounds)
    auditing: AuditSettings = field(default_factory=AuditSettings)
    limits: LimitBounds = field(default_factory=LimitBounds)

    @property
    def limiter_plugin(self) -> Plugin:
        """The limiter with its settings; an accounting that is not the default is one of them."""
        if self.accounting is Accounting.FULL:
            return self.limiter
        return Plugin(self.limiter.name, {**self.limiter.settings, "accounting": str(self.accounting)})

    @property
    def output_kept(self) -> int:
        """The bytes of output to keep of each job, 0: all. Not every store can bound it."""
        if self.output_max is None:
            return _OUTPUT_MAX if self.output_store.name == "recorder" else 0
        return self.output_max

    @property
    def job_bounds(self) -> JobBounds:
        """How many jobs may run at once."""
        most = self.max_jobs or min(MOST_JOBS, max(1, most_jobs()))
        return JobBounds(
            most, self.max_jobs_per_client or most, self.max_job_memory, self.max_job_memory_per_client
        )

    @property
    def retention(self) -> Retention:
        """The bounds on finished jobs."""
        return Retention(self.retention_age, self.retention_jobs, self.output_total, self.retention_memory)


_SETTINGS = {
    each.name: Setting(each.metadata["kind"], each.metadata["help"], each.default, each.metadata["default"])
    for each in fields(ServerSettings)
    if each.metadata
} | {name: Setting(*row) for name, row in {**BOUND_SETTINGS, **AUDIT_SETTINGS}.items()}

COMMON_SETTINGS = frozenset(
    {"config", "listen", "policy", "default_user", "max_jobs", "output_total", "retention_age", "log_level"}
)
"""What `--help` shows of the settings; `--help-all` and `man worker.toml` show all."""


def settings_options(command: Command) -> Command:
    """Add an option for each setting, and --config, to a command."""
    command = limit_bound_options(command)
    for name, each in reversed(_SETTINGS.items()):
        default = each.shown_default or each.default
        if isinstance(default, float):
            default = f"{default:g}s"
        shown = "" if default is None or default == () else f"  [default: {default}]"
        command = server_option(name, each.kind, each.help + shown)(command)
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
        envvar="WORKER_CONFIG",
        show_envvar=True,
        help="TOML file with these settings, and tables for limits and for the settings of adapters.",
    )(command)


def arguments(options: Mapping[str, object]) -> list[str]:
    """Return the given options as arguments of a command line."""
    result: list[str] = []
    for name, value in options.items():
        if isinstance(value, tuple) and not isinstance(value, Address):
            for device, limit in value:
                result += [option_name(name), f"{device}={limit}"]
        elif value is not None:
            result += [option_name(name), str(value)]
    return result


def resolve(options: Mapping[str, object], config: Path | None) -> ServerSettings:
    """Return the settings; an option that is not given is None. Raises Failure, naming file and key."""
    in_file = SettingsInFile() if config is None else read_settings(config, _SETTINGS)
    chosen = dict(in_file.values)
    for name in _SETTINGS:
        option = options.get(name)
        if option is not None and not _repeats(option, chosen.get(name)):
            chosen[name] = option
    # Each value was parsed by the type of its field.
    bounds = Bounds(**{name: chosen.pop(name) for name in BOUND_SETTINGS if name in chosen})  # type: ignore[arg-type]
    auditing = AuditSettings(**{name: chosen.pop(name) for name in AUDIT_SETTINGS if name in chosen})  # type: ignore[arg-type]
    limits = chosen_limits(options, in_file.limits)
    return ServerSettings(**chosen, bounds=bounds, auditing=auditing, limits=limits)  # type: ignore[arg-type]


def _repeats(option: object, in_file: object) -> bool:
    """Whether an option names the adapter of the file, so that the adapter's table in the file applies."""
    return isinstance(option, Plugin) and isinstance(in_file, Plugin) and option.name == in_file.name
