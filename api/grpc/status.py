"""The status of a call, as server and client know it."""

from grpclib.const import Status

__all__ = ["ERRNO_KEY", "Status", "code_name", "status_name"]

ERRNO_KEY = "worker-errno"
"""The trailing metadata that carries why a command could not be executed (errno(3))."""


def code_name(status: Status) -> str:
    """Return the name of a status as Go prints it: NotFound, InvalidArgument."""
    if status is Status.CANCELLED:
        return "Canceled"
    return "OK" if status is Status.OK else status.name.title().replace("_", "")


def status_name(code: str) -> str:
    """Return the name of a status in the gRPC specification, NOT_FOUND, for the name in Go, NotFound."""
    return next((each.name for each in Status if code_name(each) == code), Status.UNKNOWN.name)
