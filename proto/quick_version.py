"""Telling a version at import without importlib.metadata, which takes longer than what it is asked by.

betterproto2 asks for its own version when it is imported. That brings in email, zipfile and others:
two thirds of the time, and a tenth of a whole `worker query` (docs/performance.md). There is no
public way around it; tests/unit/test_proto_quick_version.py pins what is relied on.
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
    """Have importlib.metadata tell versions quickly to what is imported inside, and be gone after."""
    if _NAME in sys.modules:  # then it costs nothing any more
        yield
        return
    stand_in = sys.modules[_NAME] = _Metadata(_NAME)
    try:
        yield
    finally:
        if sys.modules.get(_NAME) is stand_in:
            del sys.modules[_NAME]


class _Metadata(ModuleType):
    """Stands in for importlib.metadata, and has it called when something else is asked for."""

    def version(self, name: str) -> str:
        """Return the version that the name of a directory tells, where there is one such directory.

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
    except OSError:  # what is on the path need not be there, nor be a directory
        return []
