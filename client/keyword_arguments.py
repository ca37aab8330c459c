"""Keyword arguments of Client, for type checkers."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..core.model.job import Leftovers
from ..core.model.limits import ResourceLimits
from ..core.model.terminal import WindowSize
from ..core.model.ulimits import Ulimit


class SpecFields(TypedDict, total=False):
    """The arguments of `start`, all optional: the fields of JobSpec except the command."""

    env: Mapping[str, str]
    working_directory: str
    user: str | None
    limits: ResourceLimits
    labels: Mapping[str, str]
    timeout: float | None
    grace: float
    leftovers: Leftovers
    split_output: bool
    output_max: int | None
    ulimits: Sequence[Ulimit]
    new_privileges: bool
    pipe_size: int | None
    linger: float
    signal_all: bool
    stdin: bool
    terminal: WindowSize | None
    name: str


class JobFilter(TypedDict, total=False):
    """The arguments of `list` and `jobs`: conditions that a job must all match.

    ``labels``: jobs with all of these; ``without_labels``: jobs with none of these; ``finished`` means not
    ``running``, and ``failed`` means finished without exit code 0; ``own``: started by this client.
    """

    labels: Mapping[str, str]
    without_labels: Mapping[str, str]
    running: bool
    finished: bool
    failed: bool
    own: bool
