"""Requests that started jobs which are removed: a client that repeats one must not start another."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from ..model.job import JobSpec

REMEMBERED = 86400.0
"""Seconds for which a request is remembered after its job is removed."""


def fingerprint(spec: JobSpec) -> str:
    """Return what tells specifications apart, the same for equal ones and in every version.

    A field that a later version adds changes nothing where it is not set.
    """
    text = json.dumps(_plain(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """Return a value as JSON knows it, without what is as by default."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: (getattr(value, each.name), _default(each)) for each in fields(value)}
        return {name: _plain(part) for name, (part, default) in parts.items() if part != default}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # to which it is equal
    return value


def _default(part: "Field[Any]") -> object:
    return part.default if part.default_factory is MISSING else part.default_factory()
