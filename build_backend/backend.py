"""The build backend (PEP 517): that of setuptools, which compiles the zygote first.

python -m build --wheel                                    for this machine
python -m build --wheel --config-setting=zygote=aarch64    for another architecture
python -m build --wheel --config-setting=zygote=none       the client, for systems other than Linux
"""

import os
import platform
from collections.abc import Mapping

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from zygote_compiler import ARCHITECTURES, compile_zygote, machine, needs_zig

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

Settings = Mapping[str, str] | None

VARIABLE = "WORKER_ZYGOTE"
"""Tells bdist_wheel.py what was compiled: an architecture, or "none"."""


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler(config_settings)]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler(config_settings)]


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    _compile(config_settings)
    return build_meta.build_wheel(wheel_directory, _others(config_settings), metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    _compile(config_settings)
    return build_meta.build_editable(wheel_directory, _others(config_settings), metadata_directory)


def _zygote(settings: Settings) -> str:
    """Return the architecture to compile for, or "none"."""
    default = machine() if platform.system() == "Linux" else "none"
    chosen = (settings or {}).get("zygote", default)
    if chosen not in {*ARCHITECTURES, "none"}:
        raise SystemExit(f"the zygote cannot be built for {chosen}: it knows {', '.join(ARCHITECTURES)}")
    return chosen


def _compiler(settings: Settings) -> list[str]:
    chosen = _zygote(settings)
    return ["ziglang"] if chosen != "none" and needs_zig(chosen) else []


def _compile(settings: Settings) -> None:
    chosen = os.environ[VARIABLE] = _zygote(settings)
    if chosen != "none":
        compile_zygote(chosen)


def _others(settings: Settings) -> dict[str, str]:
    return {name: value for name, value in (settings or {}).items() if name != "zygote"}
