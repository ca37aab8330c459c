"""The sources of the server's settings: options, variables, the file, defaults."""

from dataclasses import fields
from ipaddress import ip_network
from math import inf
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from worker.api.bounds import Bounds
from worker.cgroups.accounting import Accounting
from worker.cli.audit_settings import AuditSettings
from worker.cli.setting_types import Plugin
from worker.cli.settings import (
    ServerSettings,
    arguments,
    resolve,
    settings_options,
)
from worker.cli.terminal.console import Failure
from worker.client.address import Address
from worker.core.engine.retention import Retention
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    LimitBounds,
    MemoryLimit,
    ResourceLimits,
)


def resolved(arguments: list[str], environment: dict[str, str] | None = None) -> ServerSettings:
    """Return the settings of a server with this command line and environment."""
    found: list[ServerSettings] = []

    @click.command()
    @settings_options
    def server(config: Path | None, **options: object) -> None:
        found.append(resolve(options, config))

    CliRunner().invoke(server, arguments, env=environment, catch_exceptions=False, standalone_mode=False)
    return found[0]


def config(tmp_path: Path, text: str) -> Path:
    """Return a configuration file with this text."""
    path = tmp_path / "worker.toml"
    path.write_text(text)
    return path


def test_defaults() -> None:
    """By default the server listens on loopback and uses the built-in adapters."""
    settings = resolved([])
    assert Address("127.0.0.1", 7443) == settings.listen
    assert ["supervisor", "auto", "recorder"] == [
        settings.spawner.name,
        settings.limiter.name,
        settings.output_store.name,
    ]


def test_precedence(tmp_path: Path) -> None:
    """An option overrides the variable, the variable the file, and the file the default."""
    file = ["--config", str(config(tmp_path, 'listen = "127.0.0.1:1"\nlog_level = "debug"'))]
    variable = {"WORKER_LISTEN": "127.0.0.1:2"}
    assert 1 == resolved(file).listen.port
    assert 2 == resolved(file, variable).listen.port
    assert 3 == resolved([*file, "--listen", "127.0.0.1:3"], variable).listen.port
    assert "debug" == resolved(file, variable).log_level


def test_accounting_is_a_setting_of_the_limiter(tmp_path: Path) -> None:
    """The limiter gets it besides the settings of its table; other adapters get only what is set."""
    file = ["--config", str(config(tmp_path, '[limiter]\nname = "cgroups"\nparent = "p"'))]
    assert {"parent": "p"} == resolved(file).limiter_plugin.settings
    limited = resolved([*file, "--accounting", "limits-only"]).limiter_plugin
    assert Plugin("cgroups", {"parent": "p", "accounting": "limits-only"}) == limited
    with pytest.raises(Failure, match="accounting: unknown accounting; use full or limits-only"):
        resolved(["--config", str(config(tmp_path, 'accounting = "some"'))])


def test_a_switch(tmp_path: Path) -> None:
    """It is yes or no, and in a file also a boolean of TOML."""
    assert resolve({}, config(tmp_path, "signal_all = true")).signal_all
    assert resolve({}, config(tmp_path, "signal_all = 'yes'")).signal_all
    assert not resolved(["--signal-all", "no"]).signal_all
    with pytest.raises(click.UsageError, match="--signal-all maybe: write yes or no"):
        resolved(["--signal-all", "maybe"])


def test_every_setting_is_an_option_and_a_variable() -> None:
    """Each field can be set as an option and as a variable, with names derived from its own."""
    texts = {
        "listen": "[::1]:1",
        "tls_ca": "/a",
        "tls_cert": "/b",
        "tls_key": "/c",
        "policy": "/p",
        "default_user": "nobody:5",
        "spawner": "s",
        "limiter": "l",
        "accounting": "limits-only",
        "output_store": "o",
        "output_max": "10M",
        "tls_crl": "/d",
        "tls_denied": "/e",
        "output_total": "unlimited",
        "reserve": "8M",
        "reflection": "yes",
        "signal_all": "yes",
        "shutdown_grace": "1m",
        "max_jobs": "3K",
        "max_jobs_per_client": "30",
        "max_job_memory": "8M",
        "max_job_memory_per_client": "unlimited",
        "max_streams": "2K",
        "max_streams_per_client": "20",
        "stalled_client_timeout": "10m",
        "keepalive_time": "500ms",
        "keepalive_timeout": "2s",
        "max_connections": "3",
        "max_connections_per_client": "4",
        "max_handshakes": "5",
        "max_handshakes_per_address": "6",
        "max_handshakes_per_second": "7",
        "handshake_timeout": "8s",
        "load_balancers": "10.0.0.0/8, 2001:db8::1",
        "max_calls": "9",
        "max_calls_per_client": "10",
        "max_lookups": "26",
        "max_lookups_per_client": "27",
        "lookup_timeout": "28s",
        "max_start_size": "1M",
        "max_request_size": "11K",
        "max_request_memory": "12M",
        "max_request_memory_per_client": "13M",
        "request_timeout": "14s",
        "max_reply_memory": "15M",
        "max_reply_memory_per_client": "16M",
        "reply_timeout": "17s",
        "max_request_id_size": "18",
        "max_labels": "19",
        "max_label_size": "20K",
        "reset_burst": "21",
        "resets_per_second": "22",
        "ping_burst": "23",
        "pings_per_second": "24",
        "max_settings_frames": "25",
        "retention_age": "12h",
        "retention_jobs": "2K",
        "retention_memory": "21M",
        "log_level": "error",
        "log_format": "json",
        "audit": "/d",
        "audit_size": "1M",
        "audit_keep": "3",
        "audit_reads": "yes",
        "audit_failure": "refuse",
        "audit_redact": "pin, default",
    }
    groups = {each.name for group in (Bounds, AuditSettings) for each in fields(group)}
    assert texts.keys() | {"limits", "bounds", "auditing"} == set(ServerSettings.__slots__) | groups
    by_option = resolved(
        [part for name, text in texts.items() for part in (f"--{name.replace('_', '-')}", text)]
    )
    by_variable = resolved([], {f"WORKER_{name.upper()}": text for name, text in texts.items()})
    assert by_option == by_variable
    assert (
        ServerSettings(
            listen=Address("::1", 1),
            tls_ca=Path("/a"),
            tls_cert=Path("/b"),
            tls_key=Path("/c"),
            tls_crl=Path("/d"),
            tls_denied=Path("/e"),
            policy=Path("/p"),
            default_user="nobody:5",
            reflection=True,
            spawner=Plugin("s"),
            limiter=Plugin("l"),
            accounting=Accounting.LIMITS_ONLY,
            output_store=Plugin("o"),
            output_max=10 << 20,
            output_total=inf,
            reserve=8 << 20,
            signal_all=True,
            shutdown_grace=60.0,
            max_jobs=3000,
            max_jobs_per_client=30,
            max_job_memory=8 << 20,
            max_job_memory_per_client=inf,
            auditing=AuditSettings("/d", 1 << 20, 3, True, "refuse", "pin,default"),
            bounds=Bounds(
                max_streams=2000,
                max_streams_per_client=20,
                stalled_client_timeout=600.0,
                keepalive_time=0.5,
                keepalive_timeout=2.0,
                max_connections=3,
                max_connections_per_client=4,
                max_handshakes=5,
                max_handshakes_per_address=6,
                max_handshakes_per_second=7,
                handshake_timeout=8.0,
                load_balancers=(ip_network("10.0.0.0/8"), ip_network("2001:db8::1")),
                max_calls=9,
                max_calls_per_client=10,
                max_lookups=26,
                max_lookups_per_client=27,
                lookup_timeout=28.0,
                max_start_size=1 << 20,
                max_request_size=11 << 10,
                max_request_memory=12 << 20,
                max_request_memory_per_client=13 << 20,
                request_timeout=14.0,
                max_reply_memory=15 << 20,
                max_reply_memory_per_client=16 << 20,
                reply_timeout=17.0,
                max_request_id_size=18,
                max_labels=19,
                max_label_size=20 << 10,
                reset_burst=21,
                resets_per_second=22,
                ping_burst=23,
                pings_per_second=24,
                max_settings_frames=25,
            ),
            retention_age=43200.0,
            retention_jobs=2000,
            retention_memory=21 << 20,
            log_level="error",
            log_format="json",
        )
        == by_option
    )


def test_retention(tmp_path: Path) -> None:
    """Retention is a table in the file; its keys are also options, and `worker up` passes them on."""
    file = config(tmp_path, '[retention]\nage = "1d"\njobs = 50')
    assert Retention(86400.0, 50, 10 << 30) == resolve({}, file).retention
    given = {"retention_age": inf, "retention_jobs": 7}
    assert Retention(inf, 7, 10 << 30) == resolve(given, file).retention
    assert Retention(inf, 7) == resolved(arguments(given)).retention
    assert Retention() == resolved([]).retention
    assert Retention(memory=5) == resolved(["--retention-memory", "5"]).retention


def test_table_of_an_adapter(tmp_path: Path) -> None:
    """A table selects an adapter and has its settings, which are not passed to another adapter."""
    file = config(
        tmp_path, '[limiter]\nname = "cgroups"\nparent = "x"\n[output_store]\nsegment_size = 65536'
    )
    assert Plugin("cgroups", {"parent": "x"}) == resolve({}, file).limiter
    assert Plugin("recorder", {"segment_size": 65536}) == resolve({}, file).output_store
    assert Plugin("cgroups", {"parent": "x"}) == resolve({"limiter": Plugin("cgroups")}, file).limiter
    assert Plugin("none") == resolve({"limiter": Plugin("none")}, file).limiter


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[limits]\nmemory = '1G'", "limits: write [limits.default] and [limits.maximum]"),
        (
            "[limits.default]\nmemroy = '1G'",
            "limits: default: unknown limit 'memroy'; valid: cpu, cpu_w",
        ),
        ("[limits.maximum]\nmemory = '1X'", "limits: maximum.memory: unknown unit 'X'; use K, M, G or T"),
        ("[limits.maximum]\nmemory = true", "limits: maximum.memory: write a SIZE, as for --memory"),
        (
            "[limits.maximum]\nio_read = '1M'",
            "limits: maximum.io_read: write a table, such as { '/dev/vda' = '1M' }",
        ),
        (
            "[limits.default]\ncpu = 0",
            "limits: default: cpu: 0.0 cores; must be 0.01 to 65536",
        ),
        ('output-store = "x"', "unknown setting 'output-store'; valid: listen, tls_ca, "),
        ('listen = "7443"', "listen: write HOST:PORT, as in 127.0.0.1:7443"),
        ("listen = true", "listen: write a HOST:PORT, as for --listen"),
        ('shutdown_grace = "1x"', "shutdown_grace: unknown unit 'x'; use ms, s, m, h or d"),
        ('log_level = "loud"', "log_level: unknown level; use debug, info, warning, error"),
        ("[limiter]\nname = 3", "limiter: name is not a string"),
        ("retention = 5", "retention: write a table"),
        ('[retention]\nage = "long"', "retention_age: not a duration; write 10s, 500ms or 1h30m"),
        ("[retention]\nsize = 1", "unknown setting 'retention_size'; valid: "),
        ("[output]\nmax = '1K'", "output_max: 1024 bytes; must be 256K or more, or 0 to keep all"),
        ("[output]\nmin = 1", "unknown setting 'output_min'; valid: listen, "),
        ("output = 1", "output: write a table"),
        ('load_balancers = "10.0.0.1/8"', "load_balancers: 10.0.0.1/8 has host bits set; write addresses"),
        ("listen = ", "Invalid value (at end of document)"),
    ],
)
def test_invalid_files(tmp_path: Path, text: str, reason: str) -> None:
    """An error in the file is reported with the file, the key, and the accepted form."""
    file = config(tmp_path, text)
    with pytest.raises(Failure) as refused:
        resolve({}, file)
    assert str(refused.value).startswith(f"{file}: {reason}")


def test_the_bound_on_output_has_a_table(tmp_path: Path) -> None:
    """``[output] max`` applies to jobs without --output-max, by default 1 GiB; ``total`` to all jobs."""
    assert 1 << 30 == resolve({}, None).output_kept
    assert 0 == resolve({"output_store": Plugin("another")}, None).output_kept
    for text, size in (("10M", 10 << 20), ("all", 0), ("0", 0)):
        assert size == resolve({}, config(tmp_path, f"[output]\nmax = '{text}'")).output_kept
    assert 5 << 30 == resolve({}, config(tmp_path, "[output]\ntotal = '5G'")).retention.bytes


LIMITS = {
    "cpu": "50%",
    "cpu_weight": "200",
    "cpus": "0-1",
    "memory": "100M",
    "memory_high": "80M",
    "swap": "0",
    "pids": "2K",
    "io_read": "/dev/vda=1M",
    "io_write": "/var=2M",
    "io_read_iops": "/dev/vda=100",
    "io_write_iops": "/var=200",
}


def test_limits_for_all_jobs_can_be_set_in_three_ways(tmp_path: Path) -> None:
    """Every limit has a default and a maximum: as an option, as a variable, and in a table of the file."""
    given = [(f"{table}_{name}", text) for table in ("default", "max") for name, text in LIMITS.items()]
    by_option = resolved([part for name, text in given for part in (f"--{name.replace('_', '-')}", text)])
    by_variable = resolved([], {f"WORKER_{name.upper()}": text for name, text in given})
    lines = [
        f"{name} = {{'{text.split('=')[0]}' = '{text.split('=')[1]}'}}"
        if "=" in text
        else f"{name} = '{text}'"
        for name, text in LIMITS.items()
    ]
    tables = "\n".join(["[limits.default]", *lines, "[limits.maximum]", *lines])
    by_file = resolve({}, config(tmp_path, tables))
    limits = ResourceLimits(
        CpuLimit(0.5, 200),
        MemoryLimit(100 << 20, 80 << 20, 0),
        (IoLimit("/dev/vda", 1 << 20, None, 100), IoLimit("/var", None, 2 << 20, None, 200)),
        pids=2000,
        cpuset="0-1",
    )
    assert LimitBounds(limits, limits) == by_option.limits
    assert by_option == by_variable == by_file


def test_an_option_replaces_one_limit_of_the_file(tmp_path: Path) -> None:
    """The other limits of the file still apply."""
    file = config(tmp_path, "[limits.default]\nmemory = '1G'\npids = 100\nio_read = {'/' = '1M'}")
    changed = resolved(["--config", str(file), "--default-pids", "50", "--default-io-write", "/=2M"])
    assert (
        ResourceLimits(memory=MemoryLimit(1 << 30), pids=50, io=(IoLimit("/", 1 << 20, 2 << 20),))
        == changed.limits.default
    )


@pytest.mark.parametrize(
    ("in_file", "options", "swap"),
    [
        ("memory = '1G'", [], 0),
        ("", ["--max-memory", "1G"], 0),
        ("memory = '1G'\nswap = '2G'", [], 2 << 30),
        ("memory = '1G'", ["--max-swap", "2G"], 2 << 30),
        ("memory = '1G'\nswap = 'unlimited'", [], None),
        ("memory = '1G'", ["--max-swap", "unlimited"], None),
        ("swap = 'unlimited'", ["--max-memory", "1G"], None),
        ("swap = 'unlimited'", ["--max-memory", "1G", "--max-swap", "5"], 5),
        ("pids = 5", [], None),
    ],
)
def test_a_maximum_of_memory_bounds_swap(
    in_file: str, options: list[str], swap: int | None, tmp_path: Path
) -> None:
    """A job gets no swap beyond its memory, unless there is a maximum of swap; that may be unlimited."""
    file = config(tmp_path, f"[limits.maximum]\n{in_file}")
    limits = resolved(["--config", str(file), *options]).limits
    assert swap == limits.apply(ResourceLimits()).memory.swap_max


def test_a_default_above_the_maximum_is_rejected() -> None:
    """With such settings, every job that sets no limit would be rejected."""
    with pytest.raises(Failure, match=r"limits: pids: 20 is above this server's maximum of 10"):
        resolved(["--default-pids", "20", "--max-pids", "10"])


def test_up_passes_on_its_options() -> None:
    """Arguments derived from options result in the same settings."""
    given = [f"--{name}={text}" for name, text in {"listen": "[::1]:1", "limiter": "none"}.items()]
    given += [f"--default-{name.replace('_', '-')}={text}" for name, text in LIMITS.items()]
    found: list[list[str]] = []

    @click.command()
    @settings_options
    def up(config: Path | None, **options: object) -> None:
        found.append(arguments(options))

    CliRunner().invoke(up, given, catch_exceptions=False, standalone_mode=False)
    assert resolved(given) == resolved(found[0])


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is an error."""
    with pytest.raises(Failure, match=r"cannot read .*absent\.toml: No such file or directory"):
        resolve({}, tmp_path / "absent.toml")
