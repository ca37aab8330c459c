"""Replaces the limits of a cgroup in use: all of them, or none."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from ..core.errors import LimitsRejected
from .settings import Setting

_log = logging.getLogger(__name__)


def replace_all(settings: Iterable[Setting]) -> None:
    """Write the limits; if the kernel rejects one, restore those already written and raise LimitsRejected.

    They are restored in the opposite order, so that every intermediate state is one that the kernel
    has accepted before.
    """
    written: list[Setting] = []
    for setting in settings:
        if setting.value is None and not setting.cgroup.has(setting.file):
            continue  # this kernel does not have the limit
        before = setting.current()
        if before.text == setting.text:
            continue
        try:
            setting.write()
        except LimitsRejected:
            _roll_back(written)
            raise
        written.append(before)


def _roll_back(before: list[Setting]) -> None:
    for setting in reversed(before):
        with suppress(LimitsRejected):
            setting.write()
            continue
        _log.error("cannot restore %s to %s", setting.cgroup.file(setting.file), setting.value)
