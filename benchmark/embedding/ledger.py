"""Who encodes, on what, and what each has under way: kept by one small actor of Ray's, which all encoders tell.

What an encoder tells, it does not wait for. So the driver knows of encoders before their first chunk comes back, of
those that are silent, and which chunks were begun by one that is no more.
"""

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmark.common.ray.cluster import device_of_worker, node_name


@dataclass
class EncoderState:
    """One encoder, from its start to its end. Where Ray starts it anew, that is another one.

    Attributes:
        actor: id of Ray's actor, which outlives the process.
        host: name of its node.
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
    """What encoders tell. A run's entries are dropped when the next run opens it.

    One for all runs of a driver: a process for each would take a second.
    """

    def __init__(self) -> None:
        self._run = ""
        self._encoders: list[EncoderState] = []
        self._begun: dict[int, int] = {}

    def open(self, run: str, begun: dict[int, int]) -> None:
        """Begin a run.

        Args:
            run: its id; what encoders of other runs tell is ignored from now on.
            begun: chunk -> how often earlier runs began it, that did not write it.
        """
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


class Member:
    """An encoder's place in the ledger, from within its actor.

    Args:
        ledger: the handle of the ledger.
        run: id of the run.
    """

    def __init__(self, ledger: Any, run: str) -> None:
        import ray

        self._ledger, self._run = ledger, run
        self.host, self.device = node_name(), device_of_worker()
        actor = ray.get_runtime_context().get_actor_id() or ""  # none outside of an actor
        self._entered = ledger.enter.remote(run, actor, self.host, self.device)

    @cached_property
    def number(self) -> int:
        """Number of the encoder in the run."""
        import ray

        return ray.get(self._entered)

    def ready(self) -> None:
        """Say that it is ready for chunks."""
        self._ledger.ready.remote(self._run, self.number)

    def begin(self, chunk: int) -> Any:
        """Say that it begins a chunk; return a reference to how often it was begun, this time included."""
        return self._ledger.begin.remote(self._run, self.number, chunk)

    def begun(self, chunk: int) -> Any:
        """Return a reference to how often the run has begun a chunk."""
        return self._ledger.begun.remote(self._run, chunk)

    def written(self, chunk: int) -> None:
        """Say that a chunk is written, and wait until that is known."""
        import ray

        ray.get(self._ledger.written.remote(self._run, self.number, chunk))


def open_ledger(run: str, begun: dict[int, int]) -> Any:
    """Return the handle of this driver's ledger, opened for a run; see `Ledger.open`."""
    import ray

    context = ray.get_runtime_context()
    connection = context.get_node_id(), context.get_job_id()
    if ledger := _kept.get(connection):
        try:
            ray.get(ledger.open.remote(run, begun))
            return ledger
        except ray.exceptions.RayActorError:  # its process was ended
            pass
    _kept.clear()
    _kept[connection] = ledger = _started(context.get_node_id())
    ledger.open.remote(run, begun)
    return ledger


def _started(node: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node, soft=False)  # it lives as its driver does
    ledger: Any = ray.remote(Ledger)
    return ledger.options(num_cpus=0, scheduling_strategy=here).remote()


# Node and job of the driver -> the ledger. Ray ends an actor of which nobody holds a handle.
_kept: dict[tuple[str, str], Any] = {}
