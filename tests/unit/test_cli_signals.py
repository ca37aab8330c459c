"""Signals and ulimits as they are written on the command line."""

import shutil
import subprocess

import pytest

from worker.cli.options.signals import parse_signal
from worker.cli.options.ulimits import parse_ulimit
from worker.core.model.ulimits import Ulimit


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("TERM", 15), ("SIGTERM", 15), ("term", 15), ("SigTerm", 15), ("15", 15), ("1", 1), ("64", 64)),
        *(("IOT", 6), ("CLD", 17), ("CHLD", 17), ("POLL", 29), ("IO", 29), ("STKFLT", 16), ("PWR", 30)),
        *(("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMIN+3", 37), ("rtmin+30", 64), ("34", 34), ("UNUSED", 31)),
        *(("RTMAX", 64), ("RTMAX-1", 63), ("SIGRTMAX-30", 34), ("RTMAX-0", 64), ("SYS", 31), ("HUP", 1)),
    ],
)
def test_every_name_of_a_signal(text: str, number: int) -> None:
    """A signal has a name in any case, with or without SIG, an alias, a distance or a number."""
    assert number == parse_signal(text)


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-9", "999", "1000", "SIG", "TERM+1", "RTMIN-1", "RTMIN+31", "RTMAX-31", "RTMIN+"],
)
def test_other_names_of_signals_are_rejected(text: str) -> None:
    """What is no signal of Linux is rejected, with a reason."""
    with pytest.raises(ValueError, match="signal"):
        parse_signal(text)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_names_are_those_of_kill() -> None:
    """Each signal that kill(1) of bash lists has the same number here."""
    listed = subprocess.run(["bash", "-c", "kill -l"], capture_output=True, text=True, check=True).stdout
    words = listed.replace(")", " ").split()
    assert {int(number): name for number, name in zip(words[::2], words[1::2], strict=True)} == {
        parse_signal(name): name for name in words[1::2]
    }


@pytest.mark.parametrize(
    ("text", "ulimit"),
    [
        ("nofile=4096:8192", Ulimit("nofile", 4096, 8192)),
        ("core=0", Ulimit("core", 0, 0)),
        ("nproc=unlimited", Ulimit("nproc", None, None)),
        ("stack=8388608:max", Ulimit("stack", 8388608, None)),
        ("memlock=-1:-1", Ulimit("memlock", None, None)),
    ],
)
def test_ulimits(text: str, ulimit: Ulimit) -> None:
    """A ulimit is written as for docker, and as the type shows itself."""
    assert ulimit == parse_ulimit(text)
    assert ulimit == parse_ulimit(str(ulimit))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nofile", "write NAME=SOFT:HARD"),
        ("nofile=", "write NAME=SOFT:HARD"),
        ("=5", "write NAME=SOFT:HARD"),
        ("files=5", "unknown name 'files'"),
        ("nofile=5:", "'' is neither a whole number nor unlimited"),
        ("nofile=5:4:3", "'4:3' is neither a whole number nor unlimited"),
        ("nofile=1K", "'1K' is neither a whole number nor unlimited"),
        ("nofile=8192:4096", "soft limit 8192 is above the hard limit 4096"),
        ("nofile=18446744073709551615", "must be 0 or more and fit 64 bits"),
    ],
)
def test_invalid_ulimits(text: str, reason: str) -> None:
    """The error names what is wrong."""
    with pytest.raises(ValueError, match=reason):
        parse_ulimit(text)
