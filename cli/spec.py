"""The options of `start` and `run`: a command and the world it runs in."""

from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar

import click

from ..core.errors import InvalidJobSpec
from ..core.job import DEFAULT_GRACE, JobSpec, Leftovers
from ..core.limits import CpuLimit, IoLimit, MemoryLimit, ResourceLimits
from .console import Failure
from .parameters import CORES, COUNT, DEVICE_OPERATIONS, DEVICE_RATE, DURATION, PAIR, SIZE

Command = TypeVar("Command", bound=Callable[..., object])
DeviceLimits = Sequence[tuple[str, int]]

JOB_COMMAND = {"allow_interspersed_args": False}
"""Context settings of such a command: everything from CMD on belongs to the job."""

_OPTIONS = (
    click.option("--env", type=PAIR, multiple=True, help="Add a variable to the job's environment."),
    click.option("--cwd", metavar="DIR", default="/", show_default=True, help="Working directory."),
    click.option("--user", metavar="NAME", help="Run as this user, by name or number."),
    click.option("--timeout", type=DURATION, help="Stop the job after so long, as 90s or 1h30m."),
    click.option(
        "--grace",
        type=DURATION,
        default=DEFAULT_GRACE,
        help="From SIGTERM to SIGKILL when stopped.  [default: 10s]",
    ),
    click.option("--label", type=PAIR, multiple=True, help="Mark the job, for `worker list --label`."),
    click.option(
        "--leftovers",
        type=click.Choice([each.value for each in Leftovers]),
        default=Leftovers.KILL.value,
        show_default=True,
        help="What becomes of processes that outlive the main one.",
    ),
    click.option("--split-output", is_flag=True, help="Keep stdout and stderr apart."),
    click.option("--cpu", type=CORES, help="Processor time, as 0.5 or 50% of one core."),
    click.option(
        "--cpu-weight", type=int, metavar="1-10000", help="Share of a busy processor.  [default: 100]"
    ),
    click.option("--cpus", metavar="LIST", help="Processors to run on, as 0-1,4."),
    click.option("--memory", type=SIZE, help="Memory beyond which the kernel kills, as 512K, 100M, 1.5G."),
    click.option("--memory-high", type=SIZE, help="Memory beyond which the job is slowed down."),
    click.option("--swap", type=SIZE, help="Swap space on top of the memory."),
    click.option("--pids", type=COUNT, help="Number of processes and threads."),
    click.option(
        "--io-read", type=DEVICE_RATE, multiple=True, help="Bytes read per second, as /dev/vda=1M."
    ),
    click.option(
        "--io-write", type=DEVICE_RATE, multiple=True, help="Bytes written per second, as /var=1M."
    ),
    click.option("--io-read-iops", type=DEVICE_OPERATIONS, multiple=True, help="Reads per second."),
    click.option("--io-write-iops", type=DEVICE_OPERATIONS, multiple=True, help="Writes per second."),
    click.argument("command", metavar="CMD", type=click.UNPROCESSED),
    click.argument("args", metavar="[ARG]...", type=click.UNPROCESSED, nargs=-1),
)


class JobOptions(TypedDict):
    """What click makes of them."""

    env: Sequence[tuple[str, str]]
    cwd: str
    user: str | None
    timeout: float | None
    grace: float
    label: Sequence[tuple[str, str]]
    leftovers: str
    split_output: bool
    cpu: float | None
    cpu_weight: int | None
    cpus: str | None
    memory: int | None
    memory_high: int | None
    swap: int | None
    pids: int | None
    io_read: DeviceLimits
    io_write: DeviceLimits
    io_read_iops: DeviceLimits
    io_write_iops: DeviceLimits
    command: str
    args: Sequence[str]


def job_options(command: Command) -> Command:
    """Give a command the options of a job, and CMD and ARG."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def job_spec(options: JobOptions) -> JobSpec:
    """Return what was asked for; raise Failure if no job can be like that."""
    try:
        return JobSpec(
            command=options["command"],
            args=options["args"],
            env=dict(options["env"]),
            working_directory=options["cwd"],
            user=options["user"],
            limits=_limits(options),
            labels=dict(options["label"]),
            timeout=options["timeout"],
            grace=options["grace"],
            leftovers=Leftovers(options["leftovers"]),
            split_output=options["split_output"],
        )
    except InvalidJobSpec as error:
        # As the server would say it, which judges by the same rules.
        raise Failure(f"rpc error: code = InvalidArgument desc = {error}") from None


def _limits(options: JobOptions) -> ResourceLimits:
    return ResourceLimits(
        cpu=CpuLimit(options["cpu"], options["cpu_weight"]),
        memory=MemoryLimit(options["memory"], options["memory_high"], options["swap"]),
        io=_io_limits(
            read_bytes_per_second=options["io_read"],
            write_bytes_per_second=options["io_write"],
            read_operations_per_second=options["io_read_iops"],
            write_operations_per_second=options["io_write_iops"],
        ),
        pids=options["pids"],
        cpuset=options["cpus"],
    )


def _io_limits(**limits: DeviceLimits) -> tuple[IoLimit, ...]:
    """Gather by device what the options give by kind."""
    by_device: dict[str, dict[str, int]] = {}
    for kind, devices in limits.items():
        for device, limit in devices:
            if kind in by_device.setdefault(device, {}):
                raise click.UsageError(f"two limits of the same kind for {device}")
            by_device[device][kind] = limit
    return tuple(IoLimit(device, **kinds) for device, kinds in by_device.items())
