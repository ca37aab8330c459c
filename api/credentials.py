"""What a client needs to call a server, and the file that carries it to a machine without a network.

The file, a bundle, is a JSON object. It contains a key, and says so in its first member.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .certificate_files import write_file

LARGEST_BUNDLE = 256 << 10

_WARNING = (
    "This file contains a private key: whoever has it can act as its owner. Use `worker join --bundle`, "
    "then delete the file."
)
_VERSION = 1
_PEM = ("ca", "certificate", "key")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A client's certificate and key, the CA of its servers, all in PEM format, and their addresses."""

    name: str
    servers: Sequence[str]
    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def write_bundle(path: Path, credentials: Credentials) -> None:
    """Write a new file with mode 0600. Raises OSError; an existing file is not overwritten."""
    bundle = {
        "warning": _WARNING,
        "worker_bundle": _VERSION,
        "name": credentials.name,
        "servers": list(credentials.servers),
        **{each: getattr(credentials, each).decode() for each in _PEM},
    }
    try:
        write_file(path, json.dumps(bundle, indent=1).encode() + b"\n", 0o600)
    except FileExistsError:
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_bundle(path: Path) -> Credentials:
    """Return what a bundle contains. Raises OSError and ValueError."""
    with path.open("rb") as file:
        data = file.read(LARGEST_BUNDLE + 1)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "worker_bundle" not in found:
        raise ValueError(f"{path} is not a bundle of `worker invite`")
    if found["worker_bundle"] != _VERSION:
        raise ValueError(f"{path} is of another version of worker")
    texts = [found.get(each) for each in ("name", *_PEM)]
    servers = found.get("servers")
    if not isinstance(servers, list) or not all(isinstance(each, str) for each in [*texts, *servers]):
        raise ValueError(f"{path} is not complete")
    name, *pem = map(str, texts)
    ca, certificate, key = (each.encode(errors="replace") for each in pem)
    return Credentials(name, tuple(servers), ca, certificate, key)
