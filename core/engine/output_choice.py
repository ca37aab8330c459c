"""Which channel of a job a stream has, and how often it is read."""

from ..errors import InvalidJobSpec
from ..model.channel import Channel
from ..model.job import JobSpec
from .following import BATCH_INTERVAL


def batch(spec: JobSpec) -> float:
    """Return the seconds between two chunks: a terminal shows each key at once."""
    return BATCH_INTERVAL if spec.terminal is None else 0.0


def chosen_channel(spec: JobSpec, requested: Channel | None) -> Channel:
    """Return the channel to stream; for split output the default is stdout."""
    if requested is None or (requested is Channel.OUTPUT and spec.split_output):
        return spec.channels[0]
    if requested not in spec.channels:
        raise InvalidJobSpec("channel", f"the job was not started with split output and has no {requested}")
    return requested
