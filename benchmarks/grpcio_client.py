"""A grpcio client in a separate process, with the requested number of readers.

Run as ``python grpcio_client.py ADDRESS PKI METHOD REQUEST_HEX READERS [TIMES]``; prints the seconds and
the bytes read.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc


def connect(address: str, pki: Path) -> grpc.Channel:
    """Return a channel with a separate connection."""
    files = ((pki / name).read_bytes() for name in ("ca.crt", "writer.key", "writer.crt"))
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options)


def read_streams(address: str, pki: Path, method: str, request: bytes, readers: int) -> tuple[float, int]:
    """Return the seconds to read this many streams at the same time, and the total of bytes."""
    command = [sys.executable, __file__, address, pki, method, request.hex(), str(readers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seconds, size = done.stdout.split()
    return float(seconds), int(size)


def _main(address: str, pki: Path, method: str, request: bytes, readers: int, times: int) -> None:
    channels = [connect(address, pki) for _ in range(readers)]
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=30)

    def read(channel: grpc.Channel) -> int:
        return sum(len(reply) for _ in range(times) for reply in channel.unary_stream(method)(request))

    began = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        sizes = list(pool.map(read, channels))
    print(time.perf_counter() - began, sum(sizes))


if __name__ == "__main__":
    where, pki, method, request, readers, *times = sys.argv[1:]
    _main(where, Path(pki), method, bytes.fromhex(request), int(readers), int(times[0]) if times else 1)
