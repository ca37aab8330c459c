"""The services whose health clients can ask for."""

SERVICES = ("", "worker.v1.WorkerService", "WorkerService")
"""The service names whose health can be checked."""

AUDIT_SERVICE = "worker.audit"
"""Another one, for Check: the audit log. It is NOT_SERVING while it cannot be written."""
