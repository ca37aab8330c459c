"""Errors of the cryptography package about what it reads: some of them are no ValueError."""

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

_ERRORS = (
    TypeError,  # a bit string in a name; a key that is encrypted
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Raise ValueError for whatever the cryptography package cannot read or use."""
    try:
        yield
    except _ERRORS as error:
        raise ValueError(str(error)) from None
