"""The client of a server: it starts jobs, finds them and lists them."""

import builtins
from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from ..api import translate
from ..core.errors import JobNotFound
from ..core.model.job import JobId, JobSpec, JobStatus, parse_job_id
from ..proto import worker
from .calls import PATIENCE, Calls, method
from .connection import Connection
from .errors import Disconnection
from .job import Job

if TYPE_CHECKING:
    from typing import Unpack

    from ..api.who_am_i import WhoAmI
    from .keyword_arguments import JobFilter, SpecFields

_FIRST_PAGE = 100
"""Jobs of the first page. It is short, so that the newest jobs are printed before all are received."""
_GROWTH = 4
"""How many times as many jobs the next page has."""
_LARGEST_PAGE = 10_000


class Client:
    """A server, over as many connections as needed; an async context manager, which `connect` makes.

    Every method raises RpcError and ServerUnreachable. A call whose connection is lost is repeated over
    the next one, for at most ``patience`` seconds, and has effect once (client/calls.py). ``connect`` makes
    each connection. ``on_lost`` gets the reason for a loss; ``on_back`` is called when the server is back.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        patience: float = PATIENCE,
        on_lost: Callable[[Disconnection], None] = lambda _: None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.calls = Calls(connect, patience, on_lost, on_back)
        """For the methods of Job."""

    async def __aenter__(self) -> Self:
        self.calls.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.calls.close()

    @property
    def away(self) -> bool:
        """Whether a call is waiting for the server to come back."""
        return self.calls.away

    async def start(
        self,
        command: str | JobSpec,
        *args: str,
        request_id: str = "",
        secrets: Mapping[str, bytes] = MappingProxyType({}),
        **fields: "Unpack[SpecFields]",
    ) -> Job:
        """Start a job exactly once: a command with its arguments and other fields of JobSpec, or a JobSpec.

        With the same ``request_id`` again, from any client of this name, it is the same job. ``secrets``
        are files of the job, by name, whose contents are recorded nowhere. Raises InvalidJobSpec.
        """
        if isinstance(command, JobSpec):
            if args or fields:
                raise TypeError("a JobSpec has its arguments and fields already")
            spec = command
        else:
            spec = JobSpec(command, args, **fields)
        request = translate.start_request(spec, request_id or str(uuid4()), secrets)
        started = await self.calls.make(
            method("Start"), request, worker.StartResponse, lambda reply: parse_job_id(reply.job_id)
        )
        return Job(self, started)

    async def job(self, reference: JobId | str) -> Job:
        """Return the job that a reference names; without a call if it is a full id.

        Raises RpcError with the code NotFound if the server does not know it.
        """
        try:
            return Job(self, reference)
        except JobNotFound:
            return Job(self, (await self.query(str(reference))).record.id)

    async def query(self, reference: str) -> JobStatus:
        """Return the status of a job; the server does not send its environment."""
        return await self.calls.make(
            method("Query"),
            worker.QueryRequest(job_id=reference),
            worker.QueryResponse,
            translate.job_status,
        )

    async def list(self, **which: "Unpack[JobFilter]") -> builtins.list[JobStatus]:
        """Return the jobs that `jobs` yields."""
        return [each async for each in self.jobs(**which)]

    async def jobs(
        self, *, newest_first: bool = False, **which: "Unpack[JobFilter]"
    ) -> AsyncGenerator[JobStatus, None]:
        """Yield the status of jobs in the order of their creation, or in the reverse order, page by page.

        By default of all jobs, otherwise only of those that match the JobFilter: ``labels``,
        ``without_labels``, ``running``, ``finished``, ``failed``, ``own``.
        """
        without = which.get("without_labels", {})
        request = worker.ListRequest(
            labels=dict(which.get("labels", {})),
            without_labels=[worker.Label(name=name, value=value) for name, value in without.items()],
            running=which.get("running", False),
            finished=which.get("finished", False),
            failed=which.get("failed", False),
            own=which.get("own", False),
            newest_first=newest_first,
            page_size=_FIRST_PAGE,
        )
        while True:
            page, request.page_token = await self.calls.make(
                method("List"), request, worker.ListResponse, _page
            )
            for each in page:
                yield each
            if not request.page_token:
                return
            request.page_size = min(_GROWTH * request.page_size, _LARGEST_PAGE)

    async def who_am_i(self) -> "WhoAmI":
        """Return who this client is to the server, and which calls it may make."""
        from ..api.who_am_i import from_message  # noqa: PLC0415 - few programs need it

        return await self.calls.make(
            method("WhoAmI"), worker.WhoAmIRequest(), worker.WhoAmIResponse, from_message
        )

    async def health(self, service: str = "") -> bool:
        """Whether the server is serving; with a service of api/health_services.py, whether that works."""
        from .health import check  # noqa: PLC0415 - few programs need it

        return await self.calls.make(*check(service))


def _page(reply: worker.ListResponse) -> tuple[list[JobStatus], str]:
    """Return the jobs of a page, and the token of the next one."""
    return [translate.job_status(each) for each in reply.jobs], reply.next_page_token
