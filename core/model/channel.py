"""The streams of output that a job has. By itself, because the recorder needs it and little else."""

from enum import StrEnum


class Channel(StrEnum):
    """A stream of output: both descriptors in one, or each of its own."""

    OUTPUT = "output"
    STDOUT = "stdout"
    STDERR = "stderr"
