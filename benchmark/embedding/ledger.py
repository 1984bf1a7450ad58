"""Registry actor: device, last message and chunks under way of every encoder.

So the driver knows of encoders before their first chunk comes back, of silent ones, and what a lost one had begun.
"""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class EncoderState:
    """One encoder, from its start to its end. Where Ray starts it anew, that is another one.

    Attributes:
        actor: id of Ray's actor, which outlives the process.
        device: kind of its GPU, or `cpu`.
        entered: time of day at which it began to load its model.
        ready: time of day at which it was ready for chunks; 0 before.
        heard: time of day of its last message.
        under_way: chunk -> time of day at which it was begun, of those that are not written yet.
        chunks: number of chunks that it wrote.
        silent: seconds without a message after which another took its place; 0 for one that works.
    """

    actor: str
    host: str
    device: str
    entered: float
    heard: float
    ready: float = 0.0
    under_way: dict[int, float] = field(default_factory=dict)
    chunks: int = 0
    silent: float = 0.0

    @property
    def works(self) -> bool:
        """Whether it is ready for chunks, or has one, as far as anybody knows."""
        return bool(self.ready) and not self.silent


class Ledger:
    """What encoders tell. One for all runs of a driver, since a process for each would take a second."""

    def __init__(self) -> None:
        self._run = ""
        self._encoders: list[EncoderState] = []
        self._begun: dict[int, int] = {}

    def open(self, run: str, begun: dict[int, int]) -> None:
        """Begin a run."""
        self._run, self._encoders, self._begun = run, [], dict(begun)

    def enter(self, run: str, actor: str, host: str, device: str) -> int:
        """Take in an encoder that begins to load its model, and return its number; -1 in another run."""
        if run != self._run:
            return -1
        now = time.time()
        for encoder in self._encoders:
            if encoder.actor == actor and not encoder.silent:
                encoder.silent = max(now - encoder.heard, 1e-3)
        self._encoders.append(EncoderState(actor, host, device, now, now))
        return len(self._encoders) - 1

    def ready(self, run: str, number: int) -> None:
        """Note that an encoder is ready for chunks."""
        if run == self._run:
            self._encoders[number].ready = self._encoders[number].heard = time.time()

    def begin(self, run: str, number: int, chunk: int) -> int:
        """Note that an encoder begins a chunk, and return how often it was begun by now, this time included."""
        if run == self._run:
            encoder = self._encoders[number]
            encoder.heard = encoder.under_way[chunk] = time.time()
            self._begun[chunk] = self._begun.get(chunk, 0) + 1
        return self._begun.get(chunk, 1)

    def begun(self, run: str, chunk: int) -> int:
        """Return how often a chunk was begun in a run."""
        return self._begun.get(chunk, 0) if run == self._run else 0

    def written(self, run: str, number: int, chunk: int) -> None:
        """Note that a chunk was written."""
        if run == self._run:
            encoder = self._encoders[number]
            encoder.heard = time.time()
            encoder.under_way.pop(chunk, None)
            encoder.chunks += 1

    def state(self) -> list[EncoderState]:
        """Return all encoders of the run, in the order in which they came."""
        return self._encoders


def open_ledger(run: str, begun: dict[int, int]) -> Any:
    """Return the handle of this driver's ledger, opened for a run; see `Ledger.open`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = ray.get_runtime_context()
    connection = context.get_node_id(), context.get_job_id()
    if ledger := _kept.get(connection):
        try:
            ray.get(ledger.open.remote(run, begun))
            return ledger
        except ray.exceptions.RayActorError:  # its process was ended
            pass
    _kept.clear()
    here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)  # it lives as its driver does
    actor: Any = ray.remote(Ledger)
    _kept[connection] = ledger = actor.options(num_cpus=0, scheduling_strategy=here).remote()
    ledger.open.remote(run, begun)
    return ledger


# Node and job of the driver -> the ledger. Ray ends an actor of which nobody holds a handle.
_kept: dict[tuple[str, str], Any] = {}
