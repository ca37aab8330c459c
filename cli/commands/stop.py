"""`worker stop`: ends a job and all of its processes."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..options.parameters import DURATION, SIGNAL
from ..terminal.console import printable, say
from ..terminal.show import format_option, show_json


@click.command()
@job_argument
@click.option("--signal", type=SIGNAL, help="The first signal to send, as for kill(1).  [default: TERM]")
@click.option(
    "--grace", type=DURATION, help="Time until SIGKILL.  [default: as set when the job was started]"
)
@format_option("json")
@client_options
def stop(
    settings: ClientSettings, job: str, signal: int | None, grace: float | None, form: str | None
) -> None:
    """Stop a job and all of its processes.

    Returns when none of its processes is left.
    """
    call(settings, lambda client: client.stop(job, signal=signal, grace=grace))
    if form == "json":
        show_json({"id": job, "stopped": True})
    else:
        say(f"Job {printable(job)} has been stopped")
