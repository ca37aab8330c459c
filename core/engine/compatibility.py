"""Which adapters work together, and whether an adapter makes what it declares."""

from collections.abc import Collection, Mapping

from ..errors import IncompatibleAdapters
from ..model.channel import Channel
from ..ports import (
    AppendedFile,
    InProcessSink,
    OutputStore,
    Placement,
    PlacementKind,
    ProcessSpawner,
    RecordedFifo,
    ResourceLimiter,
    Sink,
    SinkKind,
)

_SINK_TYPES: Mapping[str, type] = {
    SinkKind.RECORDED_FIFO: RecordedFifo,
    SinkKind.APPENDED_FILE: AppendedFile,
    SinkKind.IN_PROCESS: InProcessSink,
}


def check_adapters(spawner: ProcessSpawner, limiter: ResourceLimiter, outputs: OutputStore) -> None:
    """Raise IncompatibleAdapters, with the kinds of both, if the spawner does not support an adapter."""
    if limiter.kind not in spawner.accepts:
        raise IncompatibleAdapters(
            f"the limiter needs the placement {limiter.kind}; the spawner accepts {_names(spawner.accepts)}"
        )
    if outputs.sink_kind not in spawner.accepts_sinks:
        raise IncompatibleAdapters(
            f"the output store makes {outputs.sink_kind} sinks; "
            f"the spawner accepts {_names(spawner.accepts_sinks)}"
        )


def check_placement(declared: PlacementKind, placement: Placement) -> None:
    """Raise IncompatibleAdapters if a scope is of another kind than its limiter declares."""
    if placement.kind != declared:
        raise IncompatibleAdapters(
            f"the limiter declares the placement {declared}, but prepared {placement.kind}"
        )


def check_sinks(declared: str, channels: Collection[Channel], sinks: Mapping[Channel, Sink]) -> None:
    """Raise IncompatibleAdapters unless each channel has a sink, and of the kind that is declared."""
    if set(sinks) != set(channels):
        raise IncompatibleAdapters(
            f"the output store made sinks for {_names(sinks)}; the job has {_names(channels)}"
        )
    for channel, sink in sinks.items():
        if sink.kind != declared or not isinstance(sink, _SINK_TYPES.get(declared, object)):
            raise IncompatibleAdapters(
                f"the output store declares {declared} sinks, "
                f"but the sink for {channel} is {type(sink).__name__} of kind {sink.kind}"
            )


def _names(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds)) or "none"
