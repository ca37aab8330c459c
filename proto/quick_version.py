"""The version of a distribution without importing importlib.metadata.

betterproto2 asks importlib.metadata for its own version when it is imported. That imports email, zipfile
and others: two thirds of the time of importing betterproto2, and 7 to 9 % of the CPU and wall time of a
whole `worker query` (25 alternating runs; private-parts.md). There is no public way to avoid it;
tests/unit/test_proto_quick_version.py checks what this module relies on.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

_NAME = "importlib.metadata"
_SUFFIX = ".dist-info"


@contextmanager
def quick_version() -> Iterator[None]:
    """Replace importlib.metadata by a quick version() for the imports inside, and remove it afterwards."""
    if _NAME in sys.modules:  # it is already imported: there is nothing to save
        yield
        return
    stand_in = sys.modules[_NAME] = _Metadata(_NAME)
    try:
        yield
    finally:
        if sys.modules.get(_NAME) is stand_in:
            del sys.modules[_NAME]


class _Metadata(ModuleType):
    """Stands in for importlib.metadata, and imports the real one for everything except version()."""

    def version(self, name: str) -> str:
        """Return the version in the name of the distribution's directory, if there is exactly one.

        https://packaging.python.org/en/latest/specifications/recording-installed-packages/
        """
        for directory in sys.path:
            found = [each for each in _names(directory) if each.startswith(f"{name}-")]
            if len(found) == 1:
                return found[0].removeprefix(f"{name}-").removesuffix(_SUFFIX)
            if found:
                break
        return str(self._real().version(name))

    def __getattr__(self, name: str) -> object:
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return import_module(_NAME)


def _names(directory: str) -> list[str]:
    try:
        return [each for each in os.listdir(directory or ".") if each.endswith(_SUFFIX)]
    except OSError:  # an entry of sys.path may be missing, or a zip file
        return []
