"""The build backend (PEP 517): that of setuptools, which gets a C compiler where the machine has none.

WORKER_WHEEL chooses the wheel, see wheel_kind.py:

python -m build                         for this machine
WORKER_WHEEL=aarch64 python -m build    for another architecture
WORKER_WHEEL=client python -m build     without the server, for systems other than Linux
"""

from collections.abc import Mapping

from man_pages import requirements
from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from wheel_kind import CLIENT, UnknownWheel, wheel_kind
from zygote_compiler import ZIG, compiles

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def get_requires_for_build_sdist(config_settings: Mapping[str, str] | None = None) -> list[str]:
    return [*build_meta.get_requires_for_build_sdist(config_settings), *requirements()]


def get_requires_for_build_wheel(config_settings: Mapping[str, str] | None = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler(), *requirements()]


def get_requires_for_build_editable(config_settings: Mapping[str, str] | None = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler()]


def _compiler() -> list[str]:
    """Return the compiler that is needed: none if this machine has one, since ZIG has 100 MB."""
    try:
        kind = wheel_kind()
    except UnknownWheel as error:
        raise SystemExit(f"error: {error}") from None
    return [] if kind == CLIENT or compiles(kind) else [ZIG]
