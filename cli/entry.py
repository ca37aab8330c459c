"""The entry point of the `worker` program: Ctrl-C while it imports the rest ends it without a traceback."""

import signal
import sys


def main() -> None:
    """Import the command line and run it; never returns."""
    # SIGINT is ignored in a background job of a shell, and must stay ignored.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from . import exit_status  # noqa: PLC0415 - see above
        from . import main as command_line  # noqa: PLC0415
    except ImportError as error:
        sys.exit(f"worker: a part of this installation cannot be loaded: {error}; install worker again")

    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command_line.main()
    except KeyboardInterrupt:
        sys.exit(exit_status.INTERRUPTED)
