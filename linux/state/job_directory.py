"""What lies in the directory of a job.

CHANNEL.fifo       what the job has as stdout and stderr, until the output is complete
CHANNEL-OFFSET     a segment of recorded output; OFFSET is that of its first byte
history            what the supervisor writes down of the job, until its end is journaled
history.unborn     the same before it names the job's process
history.unreadable the same of a job that was LOST because somebody has spoiled it

Paths are strings: with pathlib a recorder would be a twentieth larger, and each start take longer.
"""

import os

from ...core.model.channel import Channel

StrPath = str | os.PathLike[str]


def fifo_path(directory: StrPath, channel: Channel) -> str:
    """Return where a channel's FIFO lies."""
    return f"{directory}/{channel}.fifo"


def segment_path(directory: StrPath, channel: Channel, base: int) -> str:
    """Return the segment whose first byte has the offset ``base``."""
    return f"{directory}/{channel}-{base}"


def segment_bases(directory: StrPath, channel: Channel) -> list[int]:
    """Return the offsets at which segments begin, in order; FileNotFoundError without the directory."""
    prefix = f"{channel}-"
    offsets = (name.removeprefix(prefix) for name in os.listdir(directory) if name.startswith(prefix))
    return sorted(int(offset) for offset in offsets if offset.isdecimal())


def history_path(directory: StrPath) -> str:
    """Return where the supervisor writes down what becomes of a job."""
    return f"{directory}/history"
