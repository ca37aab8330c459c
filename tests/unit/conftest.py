"""Hypothesis profiles, and the certificates that the server's tests use."""

from pathlib import Path

import pytest
from hypothesis import settings

from worker.api import certificates
from worker.api.certificates import KeyType
from worker.api.roles import Role

# No deadlines: a slow example on a loaded machine is not a failure.
# `--hypothesis-profile=quick` selects the second profile (`make quick`).
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile("full")


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates, and one of a client that has no role."""
    directory = tmp_path_factory.mktemp("server") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    certificates.issue(directory, "nobody", [], key_type=KeyType.P256)
    return directory


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the writers alice and bob, of a reader, and of nobody, who has no role."""
    directory = tmp_path_factory.mktemp("people") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    for name in ("alice", "bob"):
        certificates.issue(directory, name, [Role.WRITER], key_type=KeyType.P256)
    certificates.issue(directory, "nobody", [], key_type=KeyType.P256)
    return directory
