"""The ledger: a Ray actor that records device, last message and chunks in flight of every encoder.

From it the driver knows the encoders before their first chunk returns, the unresponsive ones, and a lost one's chunks.
"""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EncoderState:
    """One encoder process, from start to end. An encoder that Ray restarts is a new one.

    Attributes:
        actor: id of the Ray actor, which outlives the process.
        device: model of its GPU, or `cpu`.
        started_at: time of day at which it began to load its model.
        ready_at: time of day at which it was ready for chunks; 0 before that.
        last_heartbeat: time of day of its last message.
        in_flight: chunk -> time of day at which the encoder began it; chunks that are not yet written.
        chunks: number of chunks it wrote.
        unresponsive_for: seconds without a message before it was replaced; 0 if it was not replaced.
    """

    actor: str
    host: str
    device: str
    started_at: float
    last_heartbeat: float
    ready_at: float = 0.0
    in_flight: dict[int, float] = field(default_factory=dict)
    chunks: int = 0
    unresponsive_for: float = 0.0

    @property
    def is_active(self) -> bool:
        """Whether it is ready and not replaced."""
        return bool(self.ready_at) and not self.unresponsive_for


class Ledger:
    """State of all encoders of a run. One actor serves all runs of a driver: each start takes a second."""

    def __init__(self) -> None:
        self._run = ""
        self._encoders: list[EncoderState] = []
        self._times_begun: dict[int, int] = {}

    def open(self, run: str, times_begun: dict[int, int]) -> None:
        """Start a run: drop the encoders of the last one."""
        self._run, self._encoders, self._times_begun = run, [], dict(times_begun)

    def register(self, run: str, actor: str, host: str, device: str) -> int:
        """Add an encoder that begins to load its model; return its number, -1 if `run` is not the current run."""
        if run != self._run:
            return -1
        now = time.time()
        for encoder in self._encoders:
            if encoder.actor == actor and not encoder.unresponsive_for:
                encoder.unresponsive_for = max(now - encoder.last_heartbeat, 1e-3)
        self._encoders.append(EncoderState(actor, host, device, now, now))
        return len(self._encoders) - 1

    def mark_ready(self, run: str, number: int) -> None:
        """Record that an encoder is ready for chunks."""
        if run == self._run:
            self._encoders[number].ready_at = self._encoders[number].last_heartbeat = time.time()

    def begin_chunk(self, run: str, number: int, chunk: int) -> int:
        """Record that an encoder begins a chunk; return the number of times it was begun, this one included."""
        if run == self._run:
            encoder = self._encoders[number]
            encoder.last_heartbeat = encoder.in_flight[chunk] = time.time()
            self._times_begun[chunk] = self._times_begun.get(chunk, 0) + 1
        return self._times_begun.get(chunk, 1)

    def times_begun(self, run: str, chunk: int) -> int:
        """Return the number of times that encoders of a run began a chunk."""
        return self._times_begun.get(chunk, 0) if run == self._run else 0

    def mark_written(self, run: str, number: int, chunk: int) -> None:
        """Record that a chunk was written."""
        if run == self._run:
            encoder = self._encoders[number]
            encoder.last_heartbeat = time.time()
            encoder.in_flight.pop(chunk, None)
            encoder.chunks += 1

    def encoders(self) -> list[EncoderState]:
        """Return all encoders of the run, in the order of their start."""
        return self._encoders


def open_ledger(run: str, times_begun: dict[int, int]) -> Any:
    """Return the handle of this driver's ledger, opened for a run; see `Ledger.open`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = ray.get_runtime_context()
    connection = context.get_node_id(), context.get_job_id()
    if ledger := _ledgers.get(connection):
        try:
            ray.get(ledger.open.remote(run, times_begun))
            return ledger
        except ray.exceptions.RayActorError:  # the actor died
            pass
    _ledgers.clear()
    here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)  # on the driver's node: both end together
    actor: Any = ray.remote(Ledger)
    _ledgers[connection] = ledger = actor.options(num_cpus=0, scheduling_strategy=here).remote()
    ledger.open.remote(run, times_begun)
    return ledger


# (node, job) of the driver -> its ledger. Ray ends an actor without handles.
_ledgers: dict[tuple[str, str], Any] = {}
