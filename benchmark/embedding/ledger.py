"""The ledger: a Ray actor that records device, last message and chunks in flight of every encoder.

The driver reads it to list encoders that have no finished chunk yet, unresponsive encoders, and the chunks of lost
encoders (watch.py).
"""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EncoderState:
    """One encoder process, from start to end. If Ray restarts an encoder, the new process counts as another encoder.

    Attributes:
        actor: id of the Ray actor, which stays the same after a restart.
        device: model of the encoder's GPU, `gpu` if unknown, or `cpu`.
        started_at: Unix time at which the encoder began to load its model.
        ready_at: Unix time at which the encoder was ready for chunks; 0 before that.
        last_heartbeat: Unix time of the encoder's last message.
        in_flight: chunk -> Unix time at which the encoder began it, for chunks that are not yet written.
        chunks: number of chunks that the encoder wrote.
        unresponsive_for: seconds without a message before the encoder was replaced; 0 if it was not replaced.
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
        """Whether the encoder is ready and has not been replaced."""
        return bool(self.ready_at) and not self.unresponsive_for


class Ledger:
    """States of all encoders of a run. One actor serves all runs of a driver, since its start takes a second."""

    def __init__(self) -> None:
        self._run = ""
        self._encoders: list[EncoderState] = []
        self._times_begun: dict[int, int] = {}

    def open(self, run: str, times_begun: dict[int, int]) -> None:
        """Start a run: forget the encoders of the last run. `times_begun`: chunk -> how often earlier runs began it."""
        self._run, self._encoders, self._times_begun = run, [], dict(times_begun)

    def register(self, run: str, actor: str, host: str, device: str) -> int:
        """Add an encoder that begins to load its model; return its number, or -1 if `run` is not the current run."""
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
        """Record that an encoder begins a chunk; return how often encoders have begun it, this time included."""
        if run == self._run:
            encoder = self._encoders[number]
            encoder.last_heartbeat = encoder.in_flight[chunk] = time.time()
            self._times_begun[chunk] = self._times_begun.get(chunk, 0) + 1
        return self._times_begun.get(chunk, 1)

    def times_begun(self, run: str, chunk: int) -> int:
        """Return how often encoders have begun a chunk; 0 if `run` is not the current run."""
        return self._times_begun.get(chunk, 0) if run == self._run else 0

    def mark_written(self, run: str, number: int, chunk: int) -> None:
        """Record that an encoder has written a chunk."""
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


# (node id, job id) of the driver -> its ledger. Ray ends an actor that has no handles, so they are kept here.
_ledgers: dict[tuple[str, str], Any] = {}
