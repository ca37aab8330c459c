"""`worker list`: all jobs, or those with certain labels."""

from collections.abc import Sequence

import click

from ..client_settings import ClientSettings, call, client_options
from ..options.parameters import PAIR
from ..terminal.show import format_option, show_jobs


@click.command("list")
@click.option("--running", is_flag=True, help="Only jobs that have not finished.")
@click.option("--label", type=PAIR, multiple=True, help="Only jobs with this label; may be repeated.")
@format_option("json", "wide")
@client_options
def list_jobs(
    settings: ClientSettings, label: Sequence[tuple[str, str]], form: str | None, *, running: bool
) -> None:
    """Print all jobs."""
    jobs = call(settings, lambda client: client.list(labels=dict(label), running=running))
    show_jobs(jobs, form)
