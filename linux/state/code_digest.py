"""Which version of the code this is, also when two builds have the same number."""

import hashlib
from functools import cache
from pathlib import Path

_PACKAGES = (
    "core",
    "core/model",
    "linux",
    "linux/ipc",
    "linux/kernel",
    "linux/recorder",
    "linux/state",
    "linux/supervisor",
)
"""What supervisor and recorder are made of, below the package ``worker``."""


@cache
def this_generation() -> str:
    """Return the generation of supervisors that the code on disk is: a digest of it."""
    root = Path(__file__).parent.parent.parent
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for module in sorted((root / package).glob("*.py")):
            digest.update(module.read_bytes())
    return digest.hexdigest()[:12]
