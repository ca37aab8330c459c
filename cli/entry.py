"""What the program `worker` begins with: until the rest is imported, Ctrl-C ends it as any other program.

Python would show where in the imports it was.
"""

import signal
import sys


def main() -> None:
    """Import the command line and run it; never returns."""
    # A shell's job in the background ignores it, and goes on to do so.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import main as command_line  # noqa: PLC0415 - see above

    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command_line.main()
    except KeyboardInterrupt:
        sys.exit(command_line.INTERRUPTED)
