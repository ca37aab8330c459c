"""A host on which some lookups hang: each opens a FIFO that has no writer."""

import os
from pathlib import Path

from worker.core.model.job import JobSpec
from worker.core.policy.calls import StartFacts
from worker.core.policy.rules import Policy
from worker.linux.spawner.host_lookup import HostLookup


class DeadFiles(HostLookup):
    """Looks up everything, but hangs for each start with this variable or, if told so, this command."""

    VARIABLE = "DEAD"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._fifo = directory / "dead"
        os.mkfifo(self._fifo)
        self.command = ""
        self.begun = 0

    def facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        """Look up as a HostLookup, or hang."""
        self._hang_if_told(spec)
        return super().facts(spec, policy)

    def known_facts(self, spec: JobSpec, policy: Policy) -> StartFacts | None:
        """Keep nothing that is to hang."""
        return None if self._hangs(spec) else super().known_facts(spec, policy)

    def release(self) -> None:
        """End the lookups that hang, and let no other hang."""
        os.open(self._fifo, os.O_RDWR)

    def _hangs(self, spec: JobSpec) -> bool:
        return self.VARIABLE in spec.env or (bool(self.command) and spec.command.endswith(self.command))

    def _hang_if_told(self, spec: JobSpec) -> None:
        if self._hangs(spec):
            self.begun += 1
            with self._fifo.open("rb"):
                pass
