"""How much is counted of a job: a setting. This module is loaded by commands too, and must stay small."""

from enum import StrEnum


class Accounting(StrEnum):
    """How much is counted of a job without limits."""

    FULL = "full"
    """CPU time, memory, I/O, the number of processes, and pressure (PSI)."""

    LIMITS_ONLY = "limits-only"
    """Memory; what has a limit; CPU time and number of processes, if there is a hierarchy of v2."""
