"""Fingerprints of job specs: a repeated start request must not start a second job, even after removal."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

from ..model.job import JobSpec
from ..model.terminal import WindowSize

REQUEST_RETENTION = 86400.0
"""Seconds for which the journal keeps a request after the removal of its job."""


def fingerprint(spec: JobSpec) -> str:
    """Return a hash of a job spec: equal for equal specs, different for others, and stable across versions.

    A field that a later version adds does not change the fingerprint unless it is set. The size of a
    terminal does not count: a repeated command may run in another window.
    """
    if spec.terminal is not None:
        spec = replace(spec, terminal=WindowSize())
    text = json.dumps(_plain(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """Return a value as JSON types, without fields that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: (getattr(value, each.name), _default(each)) for each in fields(value)}
        return {name: _plain(part) for name, (part, default) in parts.items() if part != default}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # equal specs may have 10 and 10.0
    return value


def _default(part: "Field[Any]") -> object:
    return part.default if part.default_factory is MISSING else part.default_factory()
