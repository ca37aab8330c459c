"""Ulimits as they are written on the command line: ``nofile=1024:4096``, as for docker."""

import re

from ...core.errors import InvalidJobSpec
from ...core.model.ulimits import Ulimit

_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_UNLIMITED = {"unlimited", "max", "-1"}


def parse_ulimit(text: str) -> Ulimit:
    """Return the ulimit of ``NAME=SOFT:HARD``, or ``NAME=BOTH``; ValueError with the reason."""
    name, equals, limits = text.partition("=")
    if not equals or not name or not limits:
        raise ValueError("write NAME=SOFT:HARD, such as nofile=1024:4096, or NAME=BOTH")
    soft, colon, hard = limits.partition(":")
    try:
        return Ulimit(name, _limit(soft), _limit(hard if colon else soft))
    except InvalidJobSpec as error:
        raise ValueError(error.reason) from None


def _limit(text: str) -> int | None:
    if text in _UNLIMITED:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is neither a whole number nor unlimited")
    return int(text)
