"""`worker query`: the status of a job."""

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.job import job_argument
from ..terminal.show import format_option, show_job


@click.command()
@job_argument
@format_option("json", "wide")
@client_options
def query(settings: ClientSettings, job: str, form: str | None) -> None:
    """Print the status of a job."""
    show_job(call(settings, lambda client: client.query(job)), form)
