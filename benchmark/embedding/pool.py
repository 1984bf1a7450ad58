"""Encoder pool: number and placement of encoder actors, before they start and as GPUs come and go.

Ray Data's pool never asks for a node (ray-project/ray#59144), and there is no pool of none (#66196). So the GPUs are
asked of the autoscaler here, the first is waited for, and the pool starts with those that are there.
"""

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmark.backbones.loading import best_device
from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.autoscaler import ask_for_gpus, autoscaled_gpus
from benchmark.common.ray.cluster import cpu_nodes, gpu_count
from benchmark.recipe.specs import RunSpec

# glibc gives the activations of each batch back to the system, and fetching every page anew for the next costs a
# forward pass on a CPU 10 % of its time (ViT-B-32) to 50 % (EfficientNet): let it keep what is freed. Other C libraries
# ignore this. The one arena is that of the process, since others cannot hold large blocks. Huge pages, where the
# kernel leaves the choice to programs, save another 1 or 2 %.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
WITHOUT_GPUS = {"CUDA_VISIBLE_DEVICES": ""}  # of a node that has some, where the recipe wants CPUs
BUFFERED = 4  # decoded chunks that may wait for each encoder actor
# Of a core that a decoding task reserves: two tasks for each core, so that one decodes while Ray hands out the next. On
# a CPU the encoder has the same cores and reserves none of them. How they are shared is found as the run goes: decoding
# goes on while there is room for what waits (`BUFFERED`), so that a fast encoder, which waits, leaves it all cores.
DECODER_CORES = 0.5
TOGETHER = 4  # chunks that a decoding task makes one after the other: it costs the driver as much as a task of one
LAST = 4  # tasks of each decoder, the last ones, that have one chunk: so that all decoders end at the same time
CALLS = 3  # of an actor at a time: one chunk is written, the next encoded, and the one after it fetched
ASK_SECONDS = 5.0  # between two statements of what is wanted, see `ask_for_gpus`
SETTLE_SECONDS = 1.0  # until all of Ray knows of a GPU that has come; before, it warns that nobody has one
SAY_SECONDS = 30.0  # between two lines of somebody who waits

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Pool:
    """Encoders of a run.

    Attributes:
        most: how many there are at most, 1 or more: with `run.gpus: auto` one for each chunk, since nodes may join
            that nobody foresaw.
        wanted: how many are planned, 1 to `most`: as many as the cluster has or may get GPUs, or nodes.
        first: how many start at once, 1 to `wanted`.
        on_gpus: whether they are on GPUs.
        threads: CPU threads of each; None on GPUs.
        asked: whether an autoscaler is asked for the GPUs.
        sharing: how many have one GPU together.
    """

    most: int
    wanted: int
    first: int
    on_gpus: bool
    threads: int | None = None
    asked: bool = False
    sharing: int = 1

    def gpus(self, chunks: int) -> int:
        """Return how many GPUs are wanted as long as so many chunks are to come."""
        return math.ceil(min(self.wanted, chunks) / self.sharing)

    @property
    def strategy(self) -> Any:
        """Ray Data's description of the pool."""
        import ray.data

        calls: dict[str, Any] = {"max_concurrent_calls_per_actor": CALLS, "enable_true_multi_threading": True}
        growing = {"min_size": 1, "max_size": self.most, "initial_size": self.first}
        return ray.data.ActorPoolStrategy(**calls, **(growing if self.on_gpus else {"size": self.most}))

    @property
    def options(self) -> dict[str, Any]:
        """What one encoder reserves: its share of a GPU, or next to nothing of a node that has cores."""
        if self.on_gpus:
            share = math.floor(10_000 / self.sharing) / 10_000  # Ray keeps four decimals, and all must fit
            return {"num_gpus": share, "num_cpus": 0}  # Ray Data would take a core for each by itself
        return {
            "num_cpus": 0.01,
            "scheduling_strategy": "SPREAD",  # one to a node, where Ray would fill up the first
            "runtime_env": {"env_vars": KEEP_FREED_MEMORY | WITHOUT_GPUS},
        }

    @property
    def device(self) -> str:
        """What the encoders run on: cuda, or what there is without a GPU of Ray's."""
        return "cuda" if self.on_gpus else "mps" if best_device() == "mps" else "cpu"


def pool_for(run: RunSpec, work: int, notify: Notify) -> Pool:
    """Return who encodes `work` chunks, once the first can; says what is waited for. In a connection to Ray.

    Raises:
        IcmBenchError: GPUs are wanted and cannot be had, or none came within `run.wait_for_gpus`; or the recipe counts
            encoders on CPUs and the cluster has GPUs.
    """
    gpus, asked = _wanted_gpus(run, notify)
    if not gpus:
        nodes, cores = cpu_nodes()
        actors = min(run.actors or nodes, work)
        return Pool(actors, actors, actors, on_gpus=False, threads=max(1, cores // math.ceil(actors / nodes)))
    if run.actors:
        raise IcmBenchError(
            f"run.actors: it counts encoders on CPUs, and there are {gpus} GPUs; leave it out and give run.gpus, or "
            f"give run.device: cpu."
        )
    sharing = run.encoders_per_gpu
    wanted = min(gpus * sharing, work)
    if asked:
        _wait_for_first(run, math.ceil(wanted / sharing), notify)
    most = work if run.gpus == "auto" else min(run.gpus * sharing, work)
    first = max(1, min(gpu_count() * sharing, wanted))
    return Pool(most, wanted, first, on_gpus=True, asked=asked, sharing=sharing)


def _wanted_gpus(run: RunSpec, notify: Notify) -> tuple[int, bool]:
    """Return how many GPUs are wanted, 0 for none, and whether an autoscaler is to be asked for them."""
    if run.device == "cpu":
        return 0, False
    there, allowed = gpu_count(), autoscaled_gpus()
    reach = max(there, allowed or 0)
    why = "whether one can be brought is unknown" if allowed is None else "no autoscaler may bring one"
    if run.device == "auto" and run.gpus == "auto":
        if not reach and os.environ.get("RAY_ADDRESS"):
            notify(f"on CPUs: no node has a GPU, and {why} (run.device: gpu insists)")
        return reach, reach > there
    if not reach and allowed is not None:
        asked = "run.device is gpu" if run.gpus == "auto" else f"run.gpus is {run.gpus}"
        raise IcmBenchError(
            f"{asked}: no node has a GPU, and {why}; give the cluster's configuration a kind of node with GPUs "
            f"(available_node_types, max_workers), or the recipe run.device: cpu."
        )
    wanted = run.gpus if run.gpus != "auto" else reach or 1
    if allowed is not None and wanted > reach:
        notify(f"{reach} GPUs: {wanted} are wanted, and the cluster has or may get no more")
        wanted = reach
    return wanted, wanted > there


def _wait_for_first(run: RunSpec, wanted: int, notify: Notify) -> None:
    began = asked = said = time.monotonic()
    ask_for_gpus(wanted)
    if not gpu_count():
        notify(f"asked for {wanted} GPUs, waiting for the first for at most {run.wait_for_gpus:.0f} s")
    while not gpu_count():
        now = time.monotonic()
        if now - began > run.wait_for_gpus:
            ask_for_gpus(0)
            raise IcmBenchError(
                f"No GPU came within {run.wait_for_gpus:.0f} s, of {wanted} that were asked of the autoscaler; see "
                f"`ray status` on the cluster for the reason, raise run.wait_for_gpus, or give run.device: cpu."
            )
        if now - asked > ASK_SECONDS:
            asked = now
            ask_for_gpus(wanted)
        if now - said > SAY_SECONDS:
            said = now
            notify(f"no GPU yet after {now - began:.0f} s")
        time.sleep(0.5)
    time.sleep(SETTLE_SECONDS)


def decoders() -> int:
    """Return how many chunks are decoded at a time. In a connection to Ray."""
    nodes, cores = cpu_nodes()
    return math.ceil(nodes * cores / DECODER_CORES)


@contextmanager
def bounded_memory(pool: Pool, block: int) -> Iterator[None]:
    """Let only so many decoded chunks, of `block` bytes each, wait that encoders never do: memory must not grow."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    options, scaling = context.execution_options, context.autoscaling_config
    before = options.resource_limits, context.target_max_block_size
    thresholds = scaling.actor_pool_util_upscaling_threshold, scaling.actor_pool_util_downscaling_threshold
    # Ray reserves room for two blocks of this size for each call under way. It is 128 MiB by default, which would
    # leave a tight limit used up by reservations: nothing would ever start.
    context.target_max_block_size = max(2**20, block)
    waiting = BUFFERED * pool.wanted + decoders() + 8
    options.resource_limits = before[0].copy(object_store_memory=max(2**28, waiting * 2 * block))
    # The pool takes a GPU as soon as it is there and those that encode have all that they can take. It gives none back
    # while chunks wait: an encoder that found none for a moment would load its model again.
    scaling.actor_pool_util_upscaling_threshold, scaling.actor_pool_util_downscaling_threshold = 1.0, -1.0
    try:
        with warnings.catch_warnings():  # to spread actors over nodes Ray Data has no other argument yet
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            yield
    finally:
        options.resource_limits, context.target_max_block_size = before
        scaling.actor_pool_util_upscaling_threshold, scaling.actor_pool_util_downscaling_threshold = thresholds
