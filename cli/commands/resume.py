"""`worker resume`: lets the processes of a paused job continue."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..terminal.console import printable, say
from ..terminal.show import format_option, show_json


@click.command()
@job_argument
@format_option("json")
@client_options
def resume(settings: ClientSettings, job: str, form: str | None) -> None:
    """Let the processes of a paused job continue."""
    call(settings, lambda client: client.resume(job))
    if form == "json":
        show_json({"id": job, "paused": False})
    else:
        say(f"Job {printable(job)} has been resumed")
