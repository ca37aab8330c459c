"""Clients that repeat no call, so that a test sees what happens to each."""

import ssl

from worker.client.client import Client
from worker.client.connection import Connection


def impatient(host: str, port: int, context: ssl.SSLContext) -> Client:
    """Return a client of this server, which raises the error of a lost connection at once."""
    return Client(lambda: Connection(host, port, context), patience=0)
