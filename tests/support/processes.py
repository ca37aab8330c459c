"""Finds processes of the machine by what is in their command line."""

from pathlib import Path


def processes_with(marker: str) -> list[str]:
    """Return the pids of all processes with this text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # it has ended meanwhile
            continue
    return found
