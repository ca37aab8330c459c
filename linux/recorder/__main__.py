"""Run as ``python -P -m worker.linux.recorder SOCKET_FD LOCK OFFSETS_FD`` by the supervisor.

Module path, arguments and messages are a versioned protocol (N-1), see linux/recorder/protocol.py: a
supervisor of the previous version starts this recorder when its own dies after an upgrade.
"""

import os
import resource
import signal
import socket
import sys

from .. import crash_points
from ..kernel.locks import open_lock, seize_lock
from .recorder import Recorder
from .shared_offsets import map_shared_offsets


def main() -> None:
    """Take the recorder lock of the generation, then record until there is nothing left to record."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # another recorder takes over by SIGTERM
    # One recorder per generation: one that outlived its supervisor exits. Held until this process ends.
    seize_lock(open_lock(sys.argv[2]))
    crash_points.enable("recorder")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    supervisor = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(supervisor.fileno(), False)
    offsets = int(sys.argv[3])
    os.set_inheritable(offsets, False)
    Recorder(supervisor, map_shared_offsets(offsets)).run()


if __name__ == "__main__":
    main()
