"""Who a client is."""

from typing import NamedTuple


class ClientId(NamedTuple):
    """A client: the name in its certificate and the issuer, since another CA may give the same name.

    ``issuer`` is None in records of an earlier version, which has recorded the name alone.
    """

    name: str
    issuer: str | None = None

    @property
    def on_record(self) -> "tuple[ClientId, ...]":
        """The ids under which jobs and requests of this client may be recorded."""
        return (self,) if self.issuer is None else (self, ClientId(self.name))
