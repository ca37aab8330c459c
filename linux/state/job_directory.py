"""The files in the directory of a job.

The output store ``recorder`` creates it. With another store the supervisor does, for the history alone.

CHANNEL.fifo       stdout and stderr of the job, until the output is complete
CHANNEL-OFFSET     a segment of recorded output; OFFSET is the offset of its first byte
stdin.fifo         stdin of a job that has one, until the job is forgotten
stdin.spool        the input that was accepted for it; most of what the job has read is a hole
stdin.writer       which session has written last, as the server names it
CHANNEL.times-N    when output was written, from offset N on (time_entries.py)
CHANNEL.times-new  the same, being written in place of another
history            the supervisor's record of the job, until the job's end is journaled
history.starting-N the same before it names the job's main process
history.unreadable the same of a job that is LOST because its history was damaged

Paths are strings: pathlib would make a recorder 5 % larger, and each start slower.
"""

import os
from contextlib import suppress

from ...core.model.channel import Channel

StrPath = str | os.PathLike[str]


def fifo_path(directory: StrPath, channel: Channel) -> str:
    """Return the path of a channel's FIFO."""
    return f"{directory}/{channel}.fifo"


def fifos_in(directory: StrPath) -> tuple[str, ...]:
    """Return the paths of all FIFOs that the store ``recorder`` may have made."""
    return tuple(fifo_path(directory, channel) for channel in Channel)


STDIN = "stdin."
"""With this begin the names of the files of a job's input."""


def stdin_fifo_path(directory: StrPath) -> str:
    """Return the path of the FIFO that a job reads its input from."""
    return f"{directory}/{STDIN}fifo"


def spool_path(directory: StrPath) -> str:
    """Return the path of the input that was accepted for a job."""
    return f"{directory}/{STDIN}spool"


def writer_path(directory: StrPath) -> str:
    """Return the path of the name of the session that has written last to a job."""
    return f"{directory}/{STDIN}writer"


def input_files(directory: StrPath) -> tuple[str, ...]:
    """Return the paths of all files of a job's input."""
    return stdin_fifo_path(directory), spool_path(directory), writer_path(directory)


def remove_input(directory: StrPath) -> None:
    """Delete the files of a job's input. Idempotent."""
    for path in input_files(directory):
        with suppress(FileNotFoundError):
            os.unlink(path)


def segment_path(directory: StrPath, channel: Channel, base: int) -> str:
    """Return the path of the segment whose first byte has the offset ``base``."""
    return f"{directory}/{channel}-{base}"


def segment_bases(directory: StrPath, channel: Channel) -> list[int]:
    """Return the first offset of each segment, in order; FileNotFoundError without the directory."""
    return _offsets_after(f"{channel}-", directory)


def times_path(directory: StrPath, channel: Channel, base: int | str) -> str:
    """Return the path of the index of times whose first entry has the offset ``base``."""
    return f"{directory}/{channel}.times-{base}"


def times_bases(directory: StrPath, channel: Channel) -> list[int]:
    """Return the offsets of the first entries of the indexes of times, in order."""
    return _offsets_after(f"{channel}.times-", directory)


def _offsets_after(prefix: str, directory: StrPath) -> list[int]:
    offsets = (name.removeprefix(prefix) for name in os.listdir(directory) if name.startswith(prefix))
    return sorted(int(offset) for offset in offsets if offset.isdecimal())


def remove_if_empty(directory: StrPath) -> None:
    """Remove the directory of a job unless it holds output."""
    with suppress(OSError):
        os.rmdir(directory)


def history_path(directory: StrPath) -> str:
    """Return the path of a job's history."""
    return f"{directory}/history"
