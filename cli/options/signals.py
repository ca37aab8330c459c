"""Signals by the names that kill(1) knows.

With numbers of its own: the job's are those of Linux, and a client may run on another system, where
USR1 has another number. Those of x86 and ARM, of which Linux has one table for all but old architectures.
"""

import re

SIGNAL_NAMES = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2"),
    *("PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU"),
    *("XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"),
)
_NUMBERS = {name: number for number, name in enumerate(SIGNAL_NAMES, 1)} | {
    "IOT": 6,
    "CLD": 17,
    "POLL": 29,
    "UNUSED": 31,
}
_RTMIN, _RTMAX = 34, 64
"""As glibc and kill(1) count; the C library keeps 32 and 33 for itself."""


_REAL_TIME = re.compile(r"RTMIN(?:\+(\d{1,2}))?|(RTMAX)(?:-(\d{1,2}))?", re.ASCII)


def parse_signal(text: str) -> int:
    """Return the number of ``TERM``, ``SIGTERM``, ``term``, ``15``, ``RTMIN+3`` or ``RTMAX-1``."""
    if re.fullmatch(r"\d{1,3}", text, re.ASCII):
        return _within(int(text), 1, f"a signal has a number from 1 to {_RTMAX}")
    name = text.upper().removeprefix("SIG")
    if name in _NUMBERS:
        return _NUMBERS[name]
    if match := _REAL_TIME.fullmatch(name):
        above, from_top, below = match.groups()
        number = _RTMAX - int(below or 0) if from_top else _RTMIN + int(above or 0)
        return _within(number, _RTMIN, f"the real-time signals are RTMIN to RTMIN+{_RTMAX - _RTMIN}")
    raise ValueError("unknown signal; write a name such as TERM or RTMIN+3, or a number such as 15")


def _within(number: int, least: int, otherwise: str) -> int:
    if not least <= number <= _RTMAX:
        raise ValueError(otherwise)
    return number
