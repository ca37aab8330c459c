"""Checks the control groups that this process is in, and prints the findings as JSON: for `worker doctor`.

The doctor runs it where `worker up` runs a server: see cgroup_checks.py.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from ..home import Home
from ..terminal.show import show_json
from .cgroup_checks import check_own_cgroups

if __name__ == "__main__":
    show_json([asdict(each) for each in check_own_cgroups(Home(Path(sys.argv[1])))])
