"""The command that prints the rest of a job's output."""

import pytest

from worker.cli.terminal.output_copy import OutputCopies, OutputCopy
from worker.core.model.ending import Channel
from worker.core.model.stream_start import BEGINNING, FromOffset, LastBytes, LastLines, StreamStart


@pytest.mark.parametrize(
    ("channel", "start", "options"),
    [
        (Channel.OUTPUT, BEGINNING, ""),
        (Channel.OUTPUT, FromOffset(7), " --offset 7"),
        (Channel.STDOUT, BEGINNING, " --stdout"),
        (Channel.STDERR, FromOffset(7), " --stderr --offset 7"),
        (Channel.STDERR, LastLines(5), " --stderr --tail 5"),
        (Channel.STDOUT, LastBytes(5), " --stdout --tail-bytes 5"),
    ],
)
def test_the_rest_of_a_channel(channel: Channel, start: StreamStart, options: str) -> None:
    """It has the channel and the start; before any output has arrived, that is the requested start."""
    assert f"worker stream JOB{options}" == OutputCopy("JOB", into=1, channel=channel, start=start).rest


@pytest.mark.parametrize("channels", [None, [Channel.OUTPUT], [Channel.STDOUT, Channel.STDERR]])
def test_the_rest_of_all_channels(channels: list[Channel] | None) -> None:
    """Before any output has arrived, one command prints all of it."""
    assert "worker stream JOB" == OutputCopies("JOB", channels).rest
    assert "worker stream JOB --tail 5" == OutputCopies("JOB", channels, start=LastLines(5)).rest
