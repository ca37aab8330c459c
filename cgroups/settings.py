"""Limits as writes to kernel files: planned first, then made all or none."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from ..core.errors import LimitsRejected
from .group import Group

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a file of a group is to say.

    ``value`` None: no limit, for which the kernel's word is ``unlimited``. ``device`` is the key
    (MAJ:MIN) in files that have a line for each block device.
    """

    group: Group
    file: str
    value: int | str | None
    unlimited: str
    device: str | None = None

    @property
    def text(self) -> str:
        """The value in the kernel's words."""
        return self.unlimited if self.value is None else str(self.value)

    def write(self) -> None:
        """Set it; raise LimitsRejected with what the kernel said."""
        self.group.set(self.file, f"{self.device} {self.text}" if self.device else self.text)

    def undoing(self) -> "Setting":
        """Return the setting that brings back what the file says now."""
        return Setting(self.group, self.file, self._read() or None, self.unlimited, self.device)

    def _read(self) -> str | None:
        text = self.group.text(self.file)
        if self.device is None:
            return text.strip()
        lines = (line.partition(" ") for line in text.splitlines())
        return next((value for device, _, value in lines if device == self.device), None)


def enforce(settings: Iterable[Setting]) -> None:
    """Set limits in a new group, which has none yet and is thrown away if that fails."""
    for setting in settings:
        if setting.value is not None:
            setting.write()


def replace(settings: Iterable[Setting]) -> None:
    """Set limits in a group that is in use, or leave them all as they were.

    What fails is undone in the opposite order, which passes through nothing but states that the
    kernel has accepted on the way. Raises LimitsRejected.
    """
    undo: list[Setting] = []
    for setting in settings:
        if setting.value is None and not setting.group.has(setting.file):
            continue  # what this kernel cannot limit is not limited
        before = setting.undoing()
        if before.text == setting.text:
            continue
        try:
            setting.write()
        except LimitsRejected:
            _undo(undo)
            raise
        undo.append(before)


def _undo(settings: list[Setting]) -> None:
    for setting in reversed(settings):
        with suppress(LimitsRejected):
            setting.write()
            continue
        _log.error("%s/%s could not be set back to %s", setting.group.path, setting.file, setting.value)
