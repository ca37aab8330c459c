"""Where the key of a CA is; cryptography is not needed to know that."""

from pathlib import Path


def key_path(directory: Path) -> Path:
    """Return where the key of the CA of this directory is.

    Earlier versions kept it in the directory itself.
    """
    own, earlier = directory.parent / "ca" / "ca.key", directory / "ca.key"
    return earlier if earlier.exists() and not own.exists() else own
