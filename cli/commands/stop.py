"""`worker stop`: ends a job and all of its processes."""

import click

from ..client_settings import ClientSettings, call_job, client_options
from ..options.job import job_argument
from ..options.parameters import DURATION, SIGNAL
from ..terminal.console import note
from ..terminal.show import confirm, format_option, output_missing


@click.command()
@job_argument
@click.option(
    "--signal",
    type=SIGNAL,
    help="The first signal to send, as for kill(1).  [default: TERM; with a terminal HUP]",
)
@click.option(
    "--grace", type=DURATION, help="Time until SIGKILL.  [default: as set when the job was started]"
)
@click.option(
    "--signal-all",
    is_flag=True,
    help="Signal every process at once, not the main process first.",
)
@format_option("json")
@client_options
def stop(
    settings: ClientSettings,
    job: str,
    signal: int | None,
    grace: float | None,
    form: str | None,
    *,
    signal_all: bool,
) -> None:
    """Stop a job and all of its processes.

    The main process gets the signal, its other processes get it when the main process has ended or
    ignores it, at the latest after half of the grace period. Then all that are left get SIGKILL.
    Returns when none of its processes is left.
    """
    missing = call_job(
        settings, job, lambda found: found.stop(signal=signal, grace=grace, signal_all=signal_all)
    )
    if missing:
        note(output_missing(missing))
    confirm(job, "stopped", form, stopped=True, output_missing=missing)
