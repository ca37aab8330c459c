"""What a policy decides about: who calls, which group of calls, on whose job, and what a start requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..model.job import JobSpec
from ..model.limits import ResourceLimits


class CallGroup(StrEnum):
    """The groups of calls that rules name. Each method of the API belongs to one."""

    READ = "read"
    OUTPUT = "output"
    START = "start"
    STOP = "stop"
    SIGNAL = "signal"
    UPDATE = "update"
    ATTACH = "attach"
    REMOVE = "remove"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls: name, issuer of the certificate, and roles."""

    name: str
    issuer: str = ""
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ids:
    """A user as the kernel knows it; ``groups`` are supplementary."""

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @property
    def all_groups(self) -> frozenset[int]:
        """The gid and the supplementary groups."""
        return self.groups | {self.gid}


@dataclass(frozen=True, slots=True)
class Accounts:
    """The user of a job, and those that it is compared with, after lookup.

    ``member`` is the user of the job with the groups of the user database, ``default`` the user of a job
    that requests none, ``own`` the uid of the worker. ``users`` and ``groups`` have those that the policy
    names and that exist.
    """

    job: Ids
    member: Ids
    default: Ids
    own: int = 0
    users: Mapping[str, Ids] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """A command after lookup.

    ``path`` is what is executed: the directory without links, the last component as it was requested.
    ``names`` has the other names by which the file was reached: as requested, each link, the file at the
    end. ``unsafe`` is why a user other than root can change what is executed; empty: none can.
    ``missing``: there is no such file.
    """

    path: str
    names: frozenset[str] = frozenset()
    unsafe: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What a start requests, after lookup.

    ``directory`` is the working directory without links; ``secrets`` are the names of the secrets.
    """

    spec: JobSpec
    program: Program
    directory: str
    accounts: Accounts
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """A call. ``own``: on a job of the caller; of a call on no job it is true.

    ``start`` is what a Start requests, ``changes`` the limits of an Update.
    """

    group: CallGroup
    own: bool = True
    start: StartFacts | None = None
    changes: ResourceLimits | None = None
