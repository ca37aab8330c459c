"""How much output of each channel is recorded: memory that a supervisor shares with its recorders.

The segments show it too, unless they are deleted by others. The next recorder, which has no descriptor
of a deleted file, would then start again at the offset 0.
"""

import mmap
import os

_MOST = 1 << 20
"""Channels at once; only pages that are used take memory."""


def create_shared_offsets() -> int:
    """Return the descriptor of new shared memory."""
    memory = os.memfd_create("worker-output-ends")
    os.ftruncate(memory, _MOST * 8)
    return memory


def map_shared_offsets(memory: int) -> "memoryview[int]":
    """Return the offset of the next byte of each channel, by the supervisor's index of the channel."""
    return memoryview(mmap.mmap(memory, _MOST * 8)).cast("Q")
