"""What the control groups and units of a worker are called."""

from hashlib import sha256
from pathlib import PurePath


def worker_name(state_dir: PurePath) -> str:
    """Return a name that two workers share only if they share this directory, given without links."""
    return "worker-" + sha256(str(state_dir).encode()).hexdigest()[:8]
