"""How far the output of each channel has come: memory that a supervisor shares with its recorders.

The segments tell it too, unless somebody deletes them. Then the next recorder, which has no descriptor
of a deleted file, would begin again at the offset 0.
"""

import mmap
import os

_MOST = 1 << 20
"""Channels at once; memory is taken for those that there are."""


def create_shared_offsets() -> int:
    """Return the descriptor of new memory to be shared."""
    memory = os.memfd_create("worker-output-ends")
    os.ftruncate(memory, _MOST * 8)
    return memory


def map_shared_offsets(memory: int) -> "memoryview[int]":
    """Return the offset of the next byte by channel, in the numbering of the supervisor."""
    return memoryview(mmap.mmap(memory, _MOST * 8)).cast("Q")
