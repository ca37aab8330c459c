"""The descriptors of our .proto files, as protobuf's own compiler writes them."""

from collections.abc import Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

import worker.proto


def compiled(out: Path, *options: str) -> Sequence[FileDescriptorProto]:
    """Return the files that we have modules of, compiled with these options into the directory ``out``."""
    source = Path(worker.proto.__file__).parent
    target = out / "descriptors"
    command = ["protoc", f"-I{source}", f"--descriptor_set_out={target}", *options]
    assert 0 == protoc.main([*command, "worker.proto", "health.proto", "reflection.proto"])
    return FileDescriptorSet.FromString(target.read_bytes()).file
