"""The name of a worker in its cgroups and systemd units."""

from hashlib import sha256
from pathlib import PurePath


def worker_name(state_dir: PurePath) -> str:
    """Return a name that is unique for this state directory; its path must have no symbolic links."""
    return "worker-" + sha256(str(state_dir).encode()).hexdigest()[:8]
