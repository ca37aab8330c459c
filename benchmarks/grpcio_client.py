"""A client over grpcio, in a process of its own: streams to as many readers as it is told.

Run as ``python grpcio_client.py ADDRESS PKI METHOD REQUEST_HEX READERS``; prints seconds and bytes read.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc


def read_streams(address: str, pki: Path, method: str, request: bytes, readers: int) -> tuple[float, int]:
    """Return the seconds that it took to read so many streams at the same time, and the bytes of all."""
    command = [sys.executable, __file__, address, pki, method, request.hex(), str(readers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seconds, size = done.stdout.split()
    return float(seconds), int(size)


def _read(channel: grpc.Channel, method: str, request: bytes) -> int:
    return sum(map(len, channel.unary_stream(method)(request)))


def _main(address: str, pki: Path, method: str, request: bytes, readers: int) -> None:
    files = ((pki / name).read_bytes() for name in ("ca.crt", "writer.key", "writer.crt"))
    credentials = grpc.ssl_channel_credentials(*files)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]
    channels = [grpc.secure_channel(address, credentials, options) for _ in range(readers)]
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=30)
    began = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        sizes = list(pool.map(_read, channels, [method] * readers, [request] * readers))
    print(time.perf_counter() - began, sum(sizes))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], bytes.fromhex(sys.argv[4]), int(sys.argv[5]))
