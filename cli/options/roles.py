"""The option --role of the commands that issue certificates for clients."""

from collections.abc import Callable
from typing import TypeVar

import click

from ...api.roles import Role

Command = TypeVar("Command", bound=Callable[..., object])


def role_option(*, required: bool) -> Callable[[Command], Command]:
    """Return a decorator that adds the option to a command, which receives the texts as ``roles``."""
    return click.option(
        "--role",
        "roles",
        type=click.Choice([each.value for each in Role]),
        multiple=True,
        required=required,
        help="Role of the client: a writer may do everything, a reader may only read.",
    )
