"""Generate proto/worker.py and proto/health.py from their .proto files (``make proto``).

The compiler writes a tree of packages. This script keeps one module for each .proto file, next to it.
"""

import os
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).parent.parent / "proto"
MODULES = {"worker.py": "worker/v1/__init__.py", "health.py": "grpc/health/v1/__init__.py"}


def generate() -> dict[str, str]:
    """Return the text of each generated module by file name."""
    tools = Path(sys.executable).parent  # contains the compiler plug-in, and ruff, which the plug-in runs
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as out:
        code = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTO}",
                f"--python_betterproto2_out={out}",
                "--python_betterproto2_opt=client_generation=async",
                "--python_betterproto2_opt=server_generation=none",
                "worker.proto",
                "health.proto",
            ]
        )
        if code != 0:
            sys.exit(f"protoc exited with {code}")
        generated = {"message_pool.py": Path(out, "message_pool.py").read_text()}
        for name, source in MODULES.items():
            text = Path(out, source).read_text()
            depth = "." * (source.count("/") + 1)
            generated[name] = text.replace(f"from {depth}message_pool", "from .message_pool")
        return generated


if __name__ == "__main__":
    for name, text in generate().items():
        (PROTO / name).write_text(text)
