"""The comments of worker.proto describe all of the API, and what they state is what the code does."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from worker.api import roles
from worker.api.bounds import Bounds
from worker.api.grpc import framing, requests
from worker.api.grpc.server_connections import OTHER_CALLS
from worker.api.grpc.status import ERRNO_KEY, Status
from worker.api.handlers import SERVICES as HEALTH_SERVICES
from worker.api.methods import SERVICES
from worker.api.wire import decoding
from worker.core.engine import following
from worker.core.model import job
from worker.core.termination import AFTER_MAIN
from worker.core.worker import STOP_MARGIN

from ..support.descriptors import compiled

ROOT = Path(__file__).parent.parent.parent
OF_THIS_FILE = SERVICES["worker.v1.WorkerService"]
PARTS = (("message_type", "field"), ("enum_type", "value"), ("service", "method"))
"""What has comments of its own: the lists of a file, and those of their elements."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """The descriptor of worker.proto, with its comments."""
    files = compiled(tmp_path_factory.mktemp("proto"), "--include_source_info")
    return next(each for each in files if each.name == "worker.proto")


@pytest.fixture(scope="module")
def comments(file: FileDescriptorProto) -> Mapping[str, str]:
    """The comments by name, such as State and State.STATE_LOST; empty where there is none."""
    by_path = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    found = {}
    for outer_list, inner_list in PARTS:
        outer_number = file.DESCRIPTOR.fields_by_name[outer_list].number
        for outer_index, outer in enumerate(getattr(file, outer_list)):
            path = (outer_number, outer_index)
            found[outer.name] = by_path[path]
            inner_number = outer.DESCRIPTOR.fields_by_name[inner_list].number
            for inner_index, inner in enumerate(getattr(outer, inner_list)):
                found[f"{outer.name}.{inner.name}"] = by_path[*path, inner_number, inner_index]
    return found


def stated(comment: str, title: str) -> list[str]:
    """Return what follows ``Title:`` in the lines of a comment that begin with it."""
    return re.findall(rf"^ {title}: (.+)$", comment, re.MULTILINE)


def statuses(comment: str) -> set[str]:
    """Return the statuses that a comment explains, each in a line of its own."""
    return set(re.findall(r"^   ([A-Z_]+): ", comment, re.MULTILINE))


def test_everything_but_evident_fields_has_a_comment(
    file: FileDescriptorProto, comments: Mapping[str, str]
) -> None:
    """The service, each method, message and enum, and each value of an enum are described."""
    fields = {f"{message.name}.{field.name}" for message in file.message_type for field in message.field}
    assert fields < comments.keys()
    assert [] == [name for name, text in comments.items() if not text.strip() and name not in fields]


def test_the_file_has_the_methods_that_are_served(file: FileDescriptorProto) -> None:
    """Each method of the table is in the file, with its types, and no other."""
    (service,) = file.service
    served = {each.name: (each.request.__name__, each.reply.__name__) for each in OF_THIS_FILE}
    types = {each.name: (each.input_type, each.output_type) for each in service.method}
    package = f".{file.package}."
    assert {name: tuple(package + each for each in pair) for name, pair in served.items()} == types


def test_each_method_states_the_right_that_it_needs(comments: Mapping[str, str]) -> None:
    """The line ``Right`` is what the server checks, also on the path of the original API."""
    rights = {each.name: [f"{each.right.value if each.right else 'none'}."] for each in OF_THIS_FILE}
    assert rights == {name: stated(comments[f"WorkerService.{name}"], "Right") for name in rights}
    for each in SERVICES["WorkerService"]:
        assert each.right is not None
        assert rights[each.name] == [f"{each.right.value}."]
    assert {roles.Right.READ} == {each.right for each in SERVICES["grpc.health.v1.Health"]}


def test_each_method_states_whether_it_may_be_repeated(comments: Mapping[str, str]) -> None:
    """The line ``Repeat`` begins with yes, no, or the condition."""
    for each in OF_THIS_FILE:
        (answer,) = stated(comments[f"WorkerService.{each.name}"], "Repeat")
        assert re.match("yes|no|with", answer), each.name


def test_every_status_is_explained(comments: Mapping[str, str]) -> None:
    """The service explains each status that api/ returns, and a method names no other."""
    source = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py"))
    returned = set(re.findall(r"\bStatus\.([A-Z_]+)", source)) - {"OK", "CANCELLED", "UNKNOWN"}
    assert returned == statuses(comments["WorkerService"])
    assert returned < {status.name for status in Status}
    named = {each.name: statuses(comments[f"WorkerService.{each.name}"]) for each in OF_THIS_FILE}
    assert {} == {name: found - returned for name, found in named.items() if found - returned}


def test_the_figures_in_the_comments_are_those_of_the_code(comments: Mapping[str, str]) -> None:
    """Bounds, names and identifiers cannot go out of date."""
    bounds = Bounds()
    general = " ".join(comments["WorkerService"].split())
    for text in (
        f"extension {roles.ROLES_OID}:",
        *(f'"{role}"' for role in roles.Role),
        *(f'"{service}"' for service in HEALTH_SERVICES),
        f"at most {bounds.max_start_size >> 20} MiB and {bounds.max_start_size // requests.SIZE_OF_FIELD}",
        f"most {bounds.max_request_size >> 10} KiB and {bounds.max_request_size // requests.SIZE_OF_FIELD}",
        f"for {decoding.FIELDS_OF_MESSAGE} more, an entry of a map for {decoding.FIELDS_OF_ENTRY} more",
        f"within {bounds.request_timeout:g} s of its headers",
        f"not read within {bounds.reply_timeout:g} s",
        f"at most {bounds.max_connections_per_client} connections",
        f"{bounds.max_streams_per_client} streams",
        f"{bounds.max_calls_per_client} other calls",
        f"more than {requests.WINDOW >> 10} KiB wait",
        f"requests have {bounds.max_request_memory_per_client >> 20} MiB",
        f"at most {framing.MESSAGE_SIZE} bytes of output",
        f'metadata "{ERRNO_KEY}"',
        f"ping within {bounds.keepalive_timeout:g} s",
        f"at most {bounds.max_streams_per_client + OTHER_CALLS} open calls",
    ):
        assert text in general
    for name, text in (
        ("WorkerService.Stop", f"{STOP_MARGIN:g} s after the grace period"),
        ("WorkerService.Stop", f"every other process {AFTER_MAIN * 1000:g} ms after"),
        ("WorkerService.Stream", f"for {bounds.stalled_client_timeout / 60:g} min"),
        ("WorkerService.Attach", f"more than {requests.MAX_STREAMED_REQUEST >> 10} KiB"),
        ("AttachChunk.data", f"has at most {following.CHUNK_SIZE} bytes"),
        ("StartRequest.grace_ms", f"absent: {job.DEFAULT_GRACE * 1000:,.0f};"),
        ("StartRequest.linger_ms", f"absent: {job.DEFAULT_LINGER * 1000:,.0f}."),
        ("StartRequest.output_max", f"at least {job.SMALLEST_OUTPUT};"),
        ("StartRequest.pipe_size", f"{job.SMALLEST_PIPE} to {job.LARGEST_PIPE};"),
        ("StreamRequest.offset", f"less than 2^{job.LARGEST_OUTPUT.bit_length() - 1}."),
    ):
        assert text in " ".join(comments[name].split())


def test_the_go_package_is_in_this_repository(file: FileDescriptorProto) -> None:
    """Its import path begins with the URL of the project."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    repository = urls["Source"].removeprefix("https://")
    assert f"{repository}/proto/workerv1;workerv1" == file.options.go_package
