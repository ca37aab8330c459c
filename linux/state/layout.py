"""The layout of the state directory.

jobs/ID/                one job, see linux/state/job_directory.py
supervisor/log          the log of every supervisor and recorder
supervisor/GENERATION/  socket and lock of a supervisor, lock of its recorder
"""

from pathlib import Path


class Layout:
    """Paths under one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.jobs = state_dir / "jobs"
        self.supervisor = state_dir / "supervisor"

    def generation(self, name: str) -> Path:
        """Return the directory of a generation of supervisors; "" is that of protocol 1."""
        return self.supervisor / name

    def make(self) -> None:
        """Create the directories, with access for this user only."""
        for directory in (self.state_dir, self.jobs, self.supervisor):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def job(self, job: object) -> str:
        """Return the directory of a job."""
        return f"{self.jobs}/{job}"
