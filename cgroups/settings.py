"""One limit as a write to a kernel file."""

from collections.abc import Iterable
from dataclasses import dataclass

from .cgroup import Cgroup


@dataclass(frozen=True, slots=True)
class Setting:
    """The value that a file of a cgroup should have.

    ``value`` None: no limit, which the kernel writes as ``unlimited``. ``device`` is the key
    (MAJ:MIN) in files that have a line for each block device.
    """

    cgroup: Cgroup
    file: str
    value: int | str | None
    unlimited: str
    device: str | None = None

    @property
    def text(self) -> str:
        """The value as the kernel writes it."""
        return self.unlimited if self.value is None else str(self.value)

    def write(self) -> None:
        """Write the value; raise LimitsRejected with the kernel's error."""
        self.cgroup.set(self.file, f"{self.device} {self.text}" if self.device else self.text)

    def current(self) -> "Setting":
        """Return the setting that restores the current content of the file."""
        return Setting(self.cgroup, self.file, self._read() or None, self.unlimited, self.device)

    def _read(self) -> str | None:
        text = self.cgroup.text(self.file)
        if self.device is None:
            return text.strip()
        lines = (line.partition(" ") for line in text.splitlines())
        return next((value for device, _, value in lines if device == self.device), None)


def write_new(settings: Iterable[Setting]) -> None:
    """Write the limits of a new cgroup. It has none yet; the caller removes it if this raises."""
    for setting in settings:
        if setting.value is not None:
            setting.write()
