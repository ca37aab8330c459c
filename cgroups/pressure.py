"""Pressure stall information: how long a job has waited for CPU, memory and I/O.

Every cgroup of v2 has it, whatever its controllers (Linux 4.20, CONFIG_PSI, and not psi=0).
https://docs.kernel.org/accounting/psi.html
"""

from dataclasses import replace

from ..core.model.limits import Pressure, ResourceUsage
from .cgroup import Cgroup


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add the pressure of a cgroup of v2."""
    return replace(
        so_far,
        cpu_pressure=parse(cgroup.text("cpu.pressure")),
        memory_pressure=parse(cgroup.text("memory.pressure")),
        io_pressure=parse(cgroup.text("io.pressure")),
    )


def parse(text: str) -> Pressure | None:
    """Return the content of a pressure file; None if the text is empty.

    Before Linux 5.13 cpu.pressure has no line "full"; its values are reported as 0 then.
    """
    lines = {line.split(" ", 1)[0]: _fields(line) for line in text.splitlines()}
    if "some" not in lines:
        return None
    some, full = lines["some"], lines.get("full", {})
    return Pressure(
        some_avg10=float(some["avg10"]),
        some_total_usec=int(some["total"]),
        full_avg10=float(full.get("avg10", 0)),
        full_total_usec=int(full.get("total", 0)),
    )


def _fields(line: str) -> dict[str, str]:
    """Return the ``key=value`` pairs in a line."""
    pairs = (word.partition("=") for word in line.split())
    return {key: value for key, equals, value in pairs if equals}
