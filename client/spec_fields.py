"""The keyword arguments of `Client.start`, for type checkers: the fields of JobSpec except the command."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..core.model.job import Leftovers
from ..core.model.limits import ResourceLimits
from ..core.model.terminal import WindowSize
from ..core.model.ulimits import Ulimit


class SpecFields(TypedDict, total=False):
    """Each is optional, and has the meaning and the type of the field of JobSpec."""

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
