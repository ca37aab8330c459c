"""The settings that bound what clients may use: type and help of each field of Bounds."""

from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network, ip_network

from ..api.bounds import Bounds
from .options.parameters import COUNT, DURATION, SIZE, Parsed, positive


def _parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())
    except ValueError as error:
        raise ValueError(f"{error}; write addresses or networks, as in 192.0.2.1,10.0.0.0/8") from None


_COUNT = positive(COUNT)
_DURATION = positive(DURATION)
_SIZE = positive(SIZE)
_NETWORKS = Parsed("NETWORKS", _parse_networks)

_KINDS_AND_HELP: Mapping[str, tuple[Parsed, str]] = {
    "max_streams": (_COUNT, "Maximum number of concurrent output streams."),
    "max_streams_per_client": (_COUNT, "Maximum for one client (the name in its certificate)."),
    "stalled_client_timeout": (_DURATION, "How long a stream waits for a client that does not read."),
    "keepalive_time": (_DURATION, "Interval of keepalive pings to a client."),
    "keepalive_timeout": (_DURATION, "Time for the client to answer a ping."),
    "max_connections": (_COUNT, "Maximum number of connections."),
    "max_connections_per_client": (_COUNT, "Maximum for one client."),
    "max_handshakes": (_COUNT, "Maximum number of unfinished TLS handshakes."),
    "max_handshakes_per_address": (_COUNT, "Maximum for one address; for IPv6, one network of 64 bits."),
    "max_handshakes_per_second": (_COUNT, "Maximum rate of TLS handshakes; more connections wait."),
    "handshake_timeout": (_DURATION, "Time for a client to complete its TLS handshake."),
    "load_balancers": (
        _NETWORKS,
        "Addresses and networks, separated by commas, without a bound for each address.",
    ),
    "max_calls": (_COUNT, "Unary calls that are executed at once; clients take turns."),
    "max_calls_per_client": (_COUNT, "Unary calls of a client that are in progress or wait for a turn."),
    "max_lookups": (_COUNT, "Lookups of users and files on the host that run at once; clients take turns."),
    "max_lookups_per_client": (_COUNT, "Maximum for one client."),
    "lookup_timeout": (_DURATION, "How long a call waits for a lookup."),
    "max_start_size": (_SIZE, "Maximum size of the request of a start."),
    "max_request_size": (_SIZE, "Maximum size of any other request."),
    "max_request_memory": (_SIZE, "Memory for requests that are not answered yet; more wait."),
    "max_request_memory_per_client": (_SIZE, "Maximum for one client."),
    "request_timeout": (_DURATION, "Time from the beginning of a call to the end of its request."),
    "max_reply_memory": (_SIZE, "Memory for replies and output that clients have not read."),
    "max_reply_memory_per_client": (_SIZE, "Maximum for one client."),
    "reply_timeout": (_DURATION, "How long such a reply waits for the client."),
    "max_request_id_size": (_SIZE, "Maximum size of the request id of a start."),
    "max_labels": (_COUNT, "Maximum number of labels of a job."),
    "max_label_size": (_SIZE, "Maximum size of all labels of a job."),
    "reset_burst": (_COUNT, "Calls of a connection that the client may cancel at once."),
    "resets_per_second": (_COUNT, "Rate of such cancellations after that."),
    "ping_burst": (_COUNT, "Pings that a client may send at once over a connection."),
    "pings_per_second": (_COUNT, "Rate of pings after that."),
    "max_settings_frames": (_COUNT, "Times that a client may change the settings of a connection."),
}

BOUND_SETTINGS: Mapping[str, tuple[Parsed, str, object]] = {
    each.name: (*_KINDS_AND_HELP[each.name], each.default) for each in fields(Bounds)
}
"""Type, help and default of each setting, in the order of Bounds."""
