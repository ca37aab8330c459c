"""Texts about limits in the words of the command: a server names the fields of its API.

``limits.memory.max: 209715200 is above the rule's maximum of 104857600`` becomes
``--memory: 200M is above the rule's maximum of 100M``.
"""

import re
from collections.abc import Callable

from .limits import LIMITS, Limit

_FIELDS = {f"limits.{each.field}": each for each in LIMITS}
_NUMBER = r"\d+(?:\.\d+)?"
_WORDS = re.compile(r"limits\.(?P<part>\w+)(?: (?P<device>\S+))?\.(?P<name>\w+)|limits\.(?P<whole>\w+)")
_ABOVE = re.compile(
    rf"(?P<field>{_WORDS.pattern}): (?P<value>{_NUMBER}|unlimited) is above (?P<whose>[\w ]+)'s maximum of "
    rf"(?P<most>{_NUMBER})"
)
_CONTROLLERS = {"cpu": "limits.cpu.quota", "memory": "limits.memory.max"}
"""The limit that stands for all of a controller."""


def in_options(text: str) -> str:
    """Return a text with the option in place of each field: ``--memory``."""
    return _in_words(text, lambda limit: limit.option, "--io-...")


def in_settings(text: str) -> str:
    """Return a text with the key of the settings in place of each field: ``memory``."""
    return _in_words(text, lambda limit: limit.name, "io")


def _in_words(text: str, name: Callable[[Limit], str], of_io: str) -> str:
    """Return the text with the ``name`` of each limit, and ``of_io`` for all those of a device."""
    if "limits." not in text:
        return text
    return _WORDS.sub(lambda found: _named(found, name, of_io), _ABOVE.sub(_with_units, text))


def _limit_of(found: re.Match[str]) -> Limit | None:
    part, whole = found["part"], found["whole"]
    if whole is not None:
        return _FIELDS.get(_CONTROLLERS.get(whole, f"limits.{whole}"))
    return _FIELDS.get(f"limits.{part}.{found['name']}")


def _named(found: re.Match[str], name: Callable[[Limit], str], of_io: str) -> str:
    limit = _limit_of(found)
    if limit is None:
        return of_io if found[0] in {"limits.io", "limits.io.device"} else found[0]
    return f"{name(limit)} {found['device']}" if found["device"] else name(limit)


def _with_units(found: re.Match[str]) -> str:
    """Return the value and its maximum as an option takes them, unless they are the same then."""
    limit = _limit_of(found)
    if limit is None:
        return found[0]
    value, most = (
        limit.shown(each if each == "unlimited" else float(each) if "." in each else int(each))
        for each in (found["value"], found["most"])
    )
    if value == most:
        return found[0]
    return f"{found['field']}: {value} is above {found['whose']}'s maximum of {most}"
