"""Certificates for the tests of the server; and how hypothesis runs here."""

from pathlib import Path

import pytest
from hypothesis import settings

from worker.api import certificates
from worker.api.certificates import KeyType

# A test that takes its time beside other load has not failed.
settings.register_profile("worker", deadline=None)
settings.load_profile("worker")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates, and one of a client that has no role."""
    directory = tmp_path_factory.mktemp("server") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    certificates.issue(directory, "nobody", [], key_type=KeyType.P256)
    return directory
