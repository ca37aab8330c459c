"""Pressure stall information: how long a job has waited for CPU, memory and I/O.

Every cgroup of v2 has it, whatever its controllers (Linux 4.20, CONFIG_PSI, and not psi=0).
https://docs.kernel.org/accounting/psi.html
"""

import re
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


_LINE = r"avg10=([\d.]+) (?:\S+ )*?total=(\d+)"
_FILE = re.compile(rf"some {_LINE}(?:.*\nfull {_LINE})?")


def parse(text: str) -> Pressure | None:
    """Return the content of a pressure file; None if the text is empty.

    Before Linux 5.13 cpu.pressure has no line "full"; its values are reported as 0 then.
    """
    found = _FILE.match(text)
    if found is None:
        return None
    some_avg10, some_total, full_avg10, full_total = found.groups(default="0")
    return Pressure(float(some_avg10), int(some_total), float(full_avg10), int(full_total))
