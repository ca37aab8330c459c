"""The factories that the entry points name: each takes its own settings and the server's WORKER_HOME."""

import zlib
from collections.abc import Mapping
from pathlib import Path

from worker.core import LimitsUnsupported

from .limiter import PidsLimiter
from .spawner import ShimSpawner
from .store import FileStore


def files(settings: Mapping[str, object], state_dir: Path) -> FileStore:
    """Make the output store ``example-files``; ``directory`` is where it keeps the files."""
    unknown = settings.keys() - {"directory"}
    if unknown:
        raise ValueError(f"unknown settings {', '.join(sorted(unknown))}; known: directory")
    return FileStore(Path(str(settings.get("directory", state_dir / "example-files"))).absolute())


def pids(settings: Mapping[str, object], state_dir: Path) -> PidsLimiter:
    """Make the limiter ``example-pids``; it has no settings."""
    if settings:
        raise ValueError(f"unknown settings {', '.join(sorted(settings))}")
    name = f"example-{zlib.crc32(bytes(state_dir.resolve())):08x}"  # of this WORKER_HOME alone
    try:
        return PidsLimiter(name)
    except OSError as error:
        raise LimitsUnsupported(f"no cgroup with the controller pids can be made: {error}") from error


def shims(settings: Mapping[str, object], state_dir: Path) -> ShimSpawner:
    """Make the spawner ``example-shims``; it has no settings."""
    if settings:
        raise ValueError(f"unknown settings {', '.join(sorted(settings))}")
    return ShimSpawner(state_dir.absolute() / "example-shims")
