"""Generate the modules and the descriptors in proto/ from the .proto files (``make proto``).

The compiler writes a tree of packages. This script keeps one module for each .proto file, next to it.
The descriptors are what server reflection sends (api/reflection.py): those of all services, with comments.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).parent.parent / "proto"
DESCRIPTORS = "descriptors.binpb"
MODULES = {
    "worker.py": "worker/v1/__init__.py",
    "health.py": "grpc/health/v1/__init__.py",
    "reflection.py": "grpc/reflection/v1/__init__.py",
}
STANDARD = {
    "grpc/health/v1/health.proto": "health.proto",
    "grpc/reflection/v1/reflection.proto": "reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto": "reflection.proto",
}
"""The names that clients know the standard files by, and our copies."""


def generate() -> dict[str, str]:
    """Return the text of each generated module by file name."""
    tools = Path(sys.executable).parent  # contains the compiler plug-in, and ruff, which the plug-in runs
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as out:
        _compile(
            PROTO,
            [
                f"--python_betterproto2_out={out}",
                "--python_betterproto2_opt=client_generation=async",
                "--python_betterproto2_opt=server_generation=none",
            ],
            [name.replace(".py", ".proto") for name in MODULES],
        )
        generated = {"message_pool.py": Path(out, "message_pool.py").read_text()}
        for name, source in MODULES.items():
            text = Path(out, source).read_text()
            depth = "." * (source.count("/") + 1)
            generated[name] = text.replace(f"from {depth}message_pool", "from .message_pool")
        return generated


def descriptors() -> bytes:
    """Return the FileDescriptorSet of all services, the standard ones under their usual file names."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory), Path(directory, "set")
        ours = sorted(each.name for each in PROTO.glob("*.proto") if each.name not in STANDARD.values())
        for name, copied in (STANDARD | {name: name for name in ours}).items():
            file = source / name
            file.parent.mkdir(parents=True, exist_ok=True)
            package = file.parent.relative_to(source).as_posix().replace("/", ".")
            text = (PROTO / copied).read_text()
            file.write_text(text.replace("package grpc.reflection.v1;", f"package {package};"))
        options = ["--include_source_info", f"--descriptor_set_out={target}"]
        _compile(source, options, [*ours, *STANDARD])
        return target.read_bytes()


def _compile(source: Path, options: Sequence[str], files: Sequence[str]) -> None:
    code = protoc.main(["protoc", f"--proto_path={source}", *options, *files])
    if code != 0:
        sys.exit(f"protoc exited with {code}")


if __name__ == "__main__":
    for name, text in generate().items():
        (PROTO / name).write_text(text)
    (PROTO / DESCRIPTORS).write_bytes(descriptors())
