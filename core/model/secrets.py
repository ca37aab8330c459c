"""The secrets of a job: passed to it as files, and part of no record."""

import re
from collections.abc import Mapping

from ..errors import InvalidJobSpec

LARGEST_SECRET = 64 << 10
"""Maximum of one secret in bytes."""

MOST_SECRETS = 1 << 20
"""Maximum of all secrets of a job together in bytes."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)


def check_secrets(secrets: Mapping[str, bytes]) -> None:
    """Raise InvalidJobSpec for a name that is not that of a file, and for secrets that are too large."""
    for name, value in secrets.items():
        if not _NAME.fullmatch(name):
            raise InvalidJobSpec(
                "secrets", f"{name[:128]!r}: write 1 to 128 letters, digits or '_', '-', '.', not '.' first"
            )
        if len(value) > LARGEST_SECRET:
            raise InvalidJobSpec(f"secrets.{name}", f"{len(value)} bytes; must be at most 64K")
    total = sum(map(len, secrets.values()))
    if total > MOST_SECRETS:
        raise InvalidJobSpec("secrets", f"{total} bytes in total; must be at most 1M")
