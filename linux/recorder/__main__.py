"""Run as ``python -m worker.linux.recorder SOCKET_FD LOCK ENDS_FD`` by the supervisor.

Module path, arguments and messages are a protocol: a supervisor of an earlier version starts this one.
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
    """Take the lock of the generation, then record until there is nothing left to record."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it is how to take over
    # The only one of its generation: one that outlived its supervisor leaves. Held until this process ends.
    seize_lock(open_lock(sys.argv[2]))
    crash_points.enable("recorder")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    supervisor = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(supervisor.fileno(), False)
    ends = int(sys.argv[3])
    os.set_inheritable(ends, False)
    Recorder(supervisor, map_shared_offsets(ends)).run()


if __name__ == "__main__":
    main()
