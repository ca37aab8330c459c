"""The port by which a policy sees the host: files and users."""

from typing import Protocol

from ..model.job import JobSpec
from .calls import Program, StartFacts
from .rules import Policy


class Lookup(Protocol):
    """Finds commands and users."""

    def facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        """Return what a start requests, with the command as found in the PATH of the policy; may block.

        What does not exist is a part of the result: a missing program, a user that no rule can list.
        """
        ...

    def known_facts(self, spec: JobSpec, policy: Policy) -> StartFacts | None:
        """Return the same if all of it was looked up a moment ago, None otherwise; does not block."""
        ...

    def program(self, path: str) -> Program:
        """Return the program at an absolute path; may block."""
        ...

    def known_program(self, path: str) -> Program | None:
        """Return the same if it was looked up a moment ago, None otherwise; does not block."""
        ...
