"""Every byte once and in order, for any timing of writes and clients, checked by hash."""

import asyncio
import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.client.job import Job
from worker.core.model.job import JobSpec
from worker.core.model.stream_start import FromOffset
from worker.proto.worker import StreamRequest, StreamResponse

WRITER = """
import json, os, random, sys, time
seed, plan = int(sys.argv[1]), json.loads(sys.argv[2])
source = random.Random(seed)
for size, times, pause in plan:
    for data in [source.randbytes(size) for _ in range(times)]:
        while data:
            data = data[os.write(1, data):]
    time.sleep(pause)
"""

Step = tuple[int, int, float]
"""Bytes per write, number of writes, and the pause after them."""

pauses = st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.1])
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.integers(1, 200), st.integers(1, 500), pauses),  # a burst of lines
    st.tuples(st.just(1), st.integers(1, 300), pauses),  # single bytes
    st.tuples(st.just(1 << 20), st.just(1), pauses),  # a large write
)
clients = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.1, 0.3]), st.floats(0, 1)), min_size=1, max_size=5
)


def written(seed: int, plan: list[Step]) -> bytes:
    """Return the output of the writer."""
    source = Random(seed)
    return b"".join(source.randbytes(size) for size, times, _ in plan for _ in range(times))


@settings(max_examples=15, deadline=None, print_blob=True)
@given(seed=st.integers(0, 1 << 32), plan=st.lists(steps, min_size=1, max_size=6), clients=clients)
async def test_every_client_gets_every_byte(
    shared: Any, seed: int, plan: list[Step], clients: list[tuple[float, float]]
) -> None:
    """It starts at the requested offset, whether it connects before the job writes or after it ends."""
    whole = written(seed, plan)

    async def read(job: str, delay: float, offset: int) -> str:
        await asyncio.sleep(delay)  # the time at which a client connects is part of the example
        digest, position = sha256(), offset
        async with shared.client() as client:
            async for chunk in Job(client, job).stream(start=FromOffset(offset)):
                assert position == chunk.offset
                digest.update(chunk.data)
                position += len(chunk.data)
        return digest.hexdigest()

    async with shared.client() as client:
        command = JobSpec(sys.executable, ["-c", WRITER, str(seed), json.dumps(plan)])
        job = str(await client.start(command))
        offsets = [int(part * len(whole)) for _, part in clients]
        reads = [read(job, delay, offset) for (delay, _), offset in zip(clients, offsets, strict=True)]
        digests = await asyncio.gather(*reads)
        assert [sha256(whole[offset:]).hexdigest() for offset in offsets] == digests
        await Job(client, job).remove()


async def test_a_hundred_clients_follow_one_job(shared: Any, tmp_path: Path) -> None:
    """All are connected before it writes 20 MB/s, and each gets all of the output."""
    plan: list[Step] = [(200_000, 1, 0.01)] * 100
    expected = sha256(b"ready\n" + written(1, plan)).hexdigest()
    gate = tmp_path / "gate"
    wait = f"echo ready; until [ -e {shlex.quote(str(gate))} ]; do sleep 0.01; done"
    write = shlex.join([sys.executable, "-c", WRITER, "1", json.dumps(plan)])
    all_connected = Barrier(100, action=gate.touch, timeout=60)
    async with shared.client() as client:
        job = str(await client.start(JobSpec("sh", ["-c", f"{wait}; exec {write}"])))
    pki = shared.home / "pki"
    credentials = grpc.ssl_channel_credentials(
        *((pki / name).read_bytes() for name in ("ca.crt", "writer.key", "writer.crt"))
    )
    request = bytes(StreamRequest(job_id=job))

    def read(channel: grpc.Channel) -> str:
        replies = channel.unary_stream("/worker.v1.WorkerService/Stream")(request)
        digest = sha256(StreamResponse.parse(next(replies)).output)
        all_connected.wait()
        for reply in replies:
            digest.update(StreamResponse.parse(reply).output)
        return digest.hexdigest()

    with ExitStack() as channels, ThreadPoolExecutor(100) as pool:
        address = (shared.home / "address").read_text().strip()
        options = [("grpc.use_local_subchannel_pool", 1)]
        opened = [
            channels.enter_context(grpc.secure_channel(address, credentials, options)) for _ in range(100)
        ]
        assert {expected} == set(pool.map(read, opened))
