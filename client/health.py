"""The call of the standard health service."""

from collections.abc import Callable

from ..proto import health


def check(
    service: str,
) -> tuple[
    str,
    health.HealthCheckRequest,
    type[health.HealthCheckResponse],
    Callable[[health.HealthCheckResponse], bool],
]:
    """Return the arguments of the call that tells whether a service, or with "" the server, works."""
    request = health.HealthCheckRequest(service=service)
    return "/grpc.health.v1.Health/Check", request, health.HealthCheckResponse, _is_serving


def _is_serving(reply: health.HealthCheckResponse) -> bool:
    return reply.status is health.HealthCheckResponseServingStatus.SERVING
