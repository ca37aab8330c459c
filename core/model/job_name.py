"""Names of jobs, which clients choose; the rules of a name keep it apart from an id and from ``@last``."""

import re

from ..errors import InvalidJobSpec

LONGEST_NAME = 63

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def check_job_name(name: str) -> None:
    """Raise InvalidJobSpec unless this is a name, or empty: no name."""
    if not name:
        return
    if not _NAME.fullmatch(name):
        shown = ascii(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}...")
        raise InvalidJobSpec(
            "job name",
            f'{shown}; must be 1 to {LONGEST_NAME} letters, digits, "_", "." and "-" of ASCII, '
            "and begin with a letter or a digit",
        )
    if _ID.fullmatch(name):
        raise InvalidJobSpec("job name", f"{name} has the form of a job id")
