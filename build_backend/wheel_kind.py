"""Which wheel is built: for an architecture, with the server and its zygote, or the client without them."""

import os
import platform

from zygote_compiler import ARCHITECTURES

VARIABLE = "WORKER_WHEEL"

CLIENT = "client"

SERVER_PARTS = (
    "cgroups",
    "cli/bootstrap.py",
    "cli/commands/debug.py",
    "cli/commands/doctor.py",
    "cli/commands/down.py",
    "cli/commands/policy.py",
    "cli/commands/serve.py",
    "cli/commands/up.py",
    "cli/doctor",
    "cli/last_up.py",
    "cli/notify.py",
    "cli/plugins.py",
    "cli/policy_file.py",
    "cli/replaceable_files.py",
    "cli/server_log.py",
    "cli/setting_types.py",
    "cli/settings.py",
    "cli/settings_file.py",
    "cli/terminal/debug_report.py",
    "linux",
)
"""What the client does not have: the packages that need Linux, and the modules that import these."""

_PLATFORMS = {
    # The program has no libc, so it suits any glibc and any musl. These are the oldest for which installers
    # accept wheels (PEP 600, PEP 656): each newer one accepts them too. The second manylinux name is
    # for pip before 20.3, and for `pip --platform manylinux2014_x86_64`.
    "x86_64": "manylinux_2_5_x86_64.manylinux1_x86_64.musllinux_1_0_x86_64",
    "aarch64": "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_0_aarch64",
}


class UnknownWheel(Exception):
    """There is no such wheel."""


def wheel_kind() -> str:
    """Return an architecture or CLIENT: that of WORKER_WHEEL, otherwise what suits this machine."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    kind = os.environ.get(VARIABLE) or (machine if platform.system() == "Linux" else CLIENT)
    if kind not in {*ARCHITECTURES, CLIENT}:
        raise UnknownWheel(
            f"there is no server for {kind}, only for {' and '.join(ARCHITECTURES)}; "
            f"to install the client, which calls servers on other machines, set {VARIABLE}={CLIENT}"
        )
    return kind


def wheel_tag(kind: str) -> tuple[str, str, str]:
    """Return the tag: any Python 3 and ABI, and the platforms."""
    return "py3", "none", _PLATFORMS.get(kind, "any")
