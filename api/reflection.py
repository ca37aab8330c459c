"""Server reflection: lists the services and their .proto files for clients such as grpcurl.

https://grpc.io/docs/guides/reflection. It needs the package protobuf, which the extra ``reflection``
installs: nothing else on the server does. The descriptors are those of proto/, made by `make proto`.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from ..proto.reflection import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)
from .grpc.status import Status


class ReflectionUnavailable(Exception):
    """The package protobuf is not installed."""


class Reflection:
    """Answers the requests of reflection; raises ReflectionUnavailable."""

    def __init__(self) -> None:
        try:
            from google.protobuf import descriptor_pb2  # noqa: PLC0415 - optional
        except ImportError:
            raise ReflectionUnavailable("the package protobuf is not installed") from None
        found = resources.files("worker.proto").joinpath("descriptors.binpb").read_bytes()
        self._files: dict[str, bytes] = {}
        self._file_of: dict[str, str] = {}
        self._messages: set[str] = set()
        self._services: list[str] = []
        for file in descriptor_pb2.FileDescriptorSet.FromString(found).file:
            self._files[file.name] = file.SerializeToString()
            self._file_of |= dict.fromkeys(self._symbols(file), file.name)

    def _symbols(self, file: Any) -> Iterator[str]:
        """Yield the names that a FileDescriptorProto defines; remember which are services and messages.

        protobuf's own pools have no methods, and no comments.
        """
        prefix = f"{file.package}." if file.package else ""
        for service in file.service:
            self._services.append(prefix + service.name)
            yield prefix + service.name
            yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)
        yield from self._symbols_of_types(prefix, file.message_type, file.enum_type)

    def _symbols_of_types(
        self, prefix: str, messages: Iterable[Any], enums: Iterable[Any]
    ) -> Iterator[str]:
        for message in messages:
            name = prefix + message.name
            self._messages.add(name)
            yield name
            yield from (f"{name}.{member.name}" for member in (*message.field, *message.oneof_decl))
            yield from self._symbols_of_types(f"{name}.", message.nested_type, message.enum_type)
        for enum in enums:
            yield prefix + enum.name
            yield from (prefix + value.name for value in enum.value)  # beside the enum, as in C++

    @property
    def services(self) -> Sequence[str]:
        """The names of the services."""
        return self._services

    def answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        """Return the answer to a request. That something does not exist is an answer, not an error."""
        answer = ServerReflectionResponse(valid_host=request.host, original_request=request)
        try:
            self._fill(answer, request)
        except KeyError:
            answer.error_response = ErrorResponse(
                error_code=Status.NOT_FOUND.value, error_message="the server has nothing of this name"
            )
        return answer

    def _fill(self, answer: ServerReflectionResponse, request: ServerReflectionRequest) -> None:
        """Add what is asked for; raise KeyError if there is no such thing."""
        if request.list_services is not None:
            services = [ServiceResponse(name=each) for each in sorted(self._services)]
            answer.list_services_response = ListServiceResponse(service=services)
        elif (name := request.file_by_filename) is not None:
            answer.file_descriptor_response = self._file(name)
        elif (symbol := request.file_containing_symbol) is not None:
            answer.file_descriptor_response = self._file(self._file_of[symbol])
        elif (message := request.all_extension_numbers_of_type) is not None:
            if message not in self._messages:
                raise KeyError(message)
            answer.all_extension_numbers_response = ExtensionNumberResponse(base_type_name=message)
        elif request.file_containing_extension is not None:
            raise KeyError  # no message has extensions
        else:
            answer.error_response = ErrorResponse(
                error_code=Status.INVALID_ARGUMENT.value, error_message="this kind of request is not known"
            )

    def _file(self, name: str) -> FileDescriptorResponse:
        return FileDescriptorResponse(file_descriptor_proto=[self._files[name]])
