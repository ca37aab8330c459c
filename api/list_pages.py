"""The pages of a list: which jobs it has, where a page begins and ends, and how long each job may be.

A stock client refuses a reply of more than 4 MiB, and a job can have megabytes of arguments.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Iterator, Sequence
from math import isfinite
from uuid import UUID

from ..core.errors import InvalidJobSpec
from ..core.model.job import JobId, JobStatus
from ..core.model.selection import JobSelection, Position
from ..proto.worker import ListRequest, ListResponse, QueryResponse
from . import translate
from .identity import Identity
from .wire.encoding import encode

LARGEST_PAGE = 1 << 20
"""Bytes of a ListResponse."""

LARGEST_ENTRY = 128 << 10
"""Bytes of a job in a list; more only of one that has everything that `_shorten` leaves."""

_TOGETHER = 10
"""Jobs that are encoded before other calls get a turn."""

_TEXT = 1024
"""Bytes of a text that is shortened."""

_LABELS = 64 << 10
"""Bytes of labels that are shortened; by default a job has no more (Bounds.max_label_size)."""

_DEVICES = 64
_TEXTS = ("name", "working_directory", "user", "owner", "lost_reason", "output_trouble", "executable")
_LISTS = ("warnings", "wrap")
_PLACE = struct.Struct(">d16s")
_TOKEN_SIZE = 40
"""Bytes of a token with its tag and its length."""


def selection(request: ListRequest, client: Identity) -> JobSelection:
    """Return which jobs are requested; raise InvalidJobSpec if that is contradictory."""
    return JobSelection(
        labels=request.labels,
        without_labels=[(each.name, each.value) for each in request.without_labels],
        running=request.running,
        finished=request.finished,
        failed=request.failed,
        owner=client.client if request.own else None,
    )


def place_after(token: str) -> Position | None:
    """Return where the page with this token begins; raise InvalidJobSpec if it is no token."""
    if not token:
        return None
    try:
        created_at, job = _PLACE.unpack(urlsafe_b64decode(token))
    except (ValueError, struct.error):
        created_at, job = float("nan"), b""
    if not isfinite(created_at):
        raise InvalidJobSpec("page_token", "is not one that this server has sent")
    return Position(created_at, JobId(UUID(bytes=job)))


async def parts(found: AsyncGenerator[JobStatus, None], most: int) -> AsyncGenerator[bytes, None]:
    """Yield a page in parts that together are a ListResponse, of ``most`` jobs, or of any number if 0."""
    entries: list[bytes] = []
    room, number = LARGEST_PAGE - _TOKEN_SIZE, 0
    last: JobStatus | None = None
    async for status in found:
        entry = list_entry(status)
        room -= len(entry)
        if last is not None and (number == most or room < 0):
            entries.append(encode(ListResponse(next_page_token=_token(last))))
            break
        last = status
        number += 1
        entries.append(entry)
        if len(entries) == _TOGETHER:
            yield b"".join(entries)
            entries.clear()
    yield b"".join(entries)


def list_entry(status: JobStatus) -> bytes:
    """Return a ListResponse with one job."""
    message = translate.query_response(status)
    message.args = _first_items(message.args)
    entry = encode(ListResponse(jobs=[message]))
    if len(entry) > LARGEST_ENTRY:
        _shorten(message)
        entry = encode(ListResponse(jobs=[message]))
    return entry


def _token(status: JobStatus) -> str:
    """Return the token of the page behind a job."""
    record = status.record
    return urlsafe_b64encode(_PLACE.pack(record.created_at, record.id.bytes)).decode()


def _shorten(message: QueryResponse) -> None:
    """Shorten what a request can make long; numbers and what has a bound of its own stay."""
    for name in _TEXTS:
        setattr(message, name, _first(getattr(message, name)))
    for name in _LISTS:
        setattr(message, name, _first_items(getattr(message, name)))
    message.labels = dict(_first_labels(message.labels))
    if message.limits is not None:
        message.limits.io = [
            each for each in message.limits.io[:_DEVICES] if len(each.device) <= _TEXT // 4
        ]


def _first(text: str) -> str:
    """Return a text, or its beginning."""
    data = text.encode()
    return text if len(data) <= _TEXT else data[:_TEXT].decode(errors="ignore") + "..."


def _first_items(items: Sequence[str]) -> list[str]:
    """Return the items up to the one with which they exceed the bound."""
    room = _TEXT
    for position, item in enumerate(items):
        room -= len(item.encode())
        if room < 0:
            shown = _first(item)
            rest = ["..."] if shown == item and position + 1 < len(items) else []
            return [*items[:position], shown, *rest]
    return [*items]


def _first_labels(labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    room = _LABELS
    for name, value in labels.items():
        shown = _first(value)
        room -= len(name.encode()) + len(shown.encode()) + 16  # tags and lengths
        if room < 0:
            return
        yield name, shown
