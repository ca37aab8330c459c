"""The channels of a job's output. A module of its own, because the recorder imports little else."""

from enum import StrEnum


class Channel(StrEnum):
    """stdout and stderr together (OUTPUT), or each recorded separately."""

    OUTPUT = "output"
    STDOUT = "stdout"
    STDERR = "stderr"
