"""Pressure stall information: how long a job has waited for CPU, memory and I/O.

Every group of v2 has it, whatever its controllers (Linux 4.20, CONFIG_PSI, and not psi=0).
https://docs.kernel.org/accounting/psi.html
"""

from dataclasses import replace

from ...core.model.limits import Pressure, ResourceUsage
from ..group import Group


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add the pressure of a group of v2."""
    return replace(
        so_far,
        cpu_pressure=parse(group.text("cpu.pressure")),
        memory_pressure=parse(group.text("memory.pressure")),
        io_pressure=parse(group.text("io.pressure")),
    )


def parse(text: str) -> Pressure | None:
    """Return what a pressure file tells; None where there is none such.

    Before Linux 5.13 cpu.pressure has no line "full": nothing is known then of all tasks waiting.
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
