"""The log of the server on stderr: one line per event."""

import logging

from ..linux.logs.handler import configure


def log_to_stderr(level: str, form: str) -> None:
    """Log events of this level and above to stderr; supervisors and recorders will do the same."""
    configure("server", level, form)
    logging.getLogger("hpack").setLevel(logging.INFO)  # at the debug level it logs every header
    # It logs each call of a connection that ends; ours is one line for the connection.
    logging.getLogger("grpclib").setLevel(logging.WARNING)
