"""The argument JOB of the commands about an existing job."""

import click

job_argument = click.argument("job", metavar="JOB")
