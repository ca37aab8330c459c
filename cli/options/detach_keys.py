"""The keys that detach a command from the terminal of a job, written as for docker: ``ctrl-p,ctrl-q``."""

import os
import re
from collections.abc import Callable
from typing import TypeVar

import click

from .parameters import Parsed

Command = TypeVar("Command", bound=Callable[..., object])

_CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])", re.IGNORECASE)


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes of keys such as ``ctrl-p,ctrl-q`` or ``~,d``; ValueError with the reason.

    Without keys, nothing detaches.
    """
    return bytes(map(_key, text.split(","))) if text else b""


def _key(name: str) -> int:
    if match := _CONTROL.fullmatch(name):
        return ord(match[1].upper()) - ord("@")
    if len(name) == 1 and name.isascii():
        return ord(name)
    raise ValueError(
        f"unknown key {name!r}; write single characters and ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, "
        "ctrl-], ctrl-^ or ctrl-_, with commas between them"
    )


class _EmptyVariableCounts(click.Option):
    """An option whose variable may be empty, which click takes for absent."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:  # noqa: ARG002 - as in click
        return os.environ.get(str(self.envvar))


def detach_keys_option(command: Command) -> Command:
    """Add the option to a command, which receives the bytes as ``detach_keys``."""
    return click.option(
        "--detach-keys",
        cls=_EmptyVariableCounts,
        type=Parsed("KEYS", parse_detach_keys),
        default="ctrl-p,ctrl-q",
        show_default=True,
        envvar="WORKER_DETACH_KEYS",
        show_envvar=True,
        help="Keys that end only this command, if the job has a terminal; it keeps running.",
    )(command)
