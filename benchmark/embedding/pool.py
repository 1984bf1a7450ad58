"""Encoder pool: number and placement of encoder actors, also if GPUs join or leave the cluster during a run.

Ray Data's pool never requests nodes (ray-project/ray#59144) and cannot start empty (#66196). This module therefore
requests GPUs from the autoscaler, waits for the first one, and starts the pool with the GPUs of that moment.
"""

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from benchmark.backbones.loading import best_device
from benchmark.common.errors import IcmBenchError
from benchmark.common.machine import torch_gpus, unusable_gpus
from benchmark.common.ray.autoscaler import autoscaled_gpus, request_gpus
from benchmark.common.ray.cluster import alive_nodes, cpu_nodes, gpu_count, node_name
from benchmark.embedding.batching import Limits
from benchmark.recipe.specs import RunSpec

# By default glibc returns the memory of each batch's activations to the system. Mapping it again for the next batch
# costs 10 % (ViT-B-32) to 50 % (EfficientNet) of a forward pass on a CPU. With these variables glibc keeps freed
# memory; other C libraries ignore them. Only the main arena is used, since others cannot hold large blocks. Huge pages
# save another 1 or 2 % if the kernel leaves their use to programs.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
WITHOUT_GPUS = {"CUDA_VISIBLE_DEVICES": ""}  # hides a node's GPUs if the recipe sets CPUs
# Number of cores that a decoding task reserves: half a core, so that one task decodes while Ray schedules the next one.
# An encoder on CPUs uses the same cores and reserves none. Backpressure divides the cores: decoding pauses if one chunk
# more waits than an encoder takes calls, and a fast encoder that waits for chunks leaves all cores to decoding.
DECODER_CORES = 0.5
CHUNKS_PER_TASK = 4  # chunks that one decoding task decodes, since the driver has a fixed cost for each task
SINGLE_CHUNK_TASKS = 4  # number of a decoder's last tasks that have one chunk, so that all decoders end together
# On a CPU, one chunk is written, the next is encoded, and another is fetched. A GPU has three batches of chunks (one is
# computed, one is queued, one waits). As many parts are written as the encoder's rate times the store's latency, at
# most `MAX_WRITES` with `MAX_WRITE_BYTES`. The chunks of all calls hold their pixels, at most `MAX_CALL_BYTES`.
CPU_LIMITS = Limits(calls=3, staged=3, begun=2, writes=64)
MAX_WRITES, MAX_WRITE_BYTES, MAX_CALL_BYTES = 64, 2**26, 2**29
# Ray Data takes finished chunks ten times a second. Until then a decoding task of a run on GPUs holds at least two, and
# all tasks together so many; by default Ray stops each task after two, which starves a GPU beside few cores.
HELD_CHUNKS = 16
QUEUED_CHUNKS = 4  # minimum number of calls that wait on a GPU, since a new call may come a tenth of a second late
REQUEST_SECONDS = 5.0  # seconds between two requests to the autoscaler, see `request_gpus`
SETTLE_SECONDS = 1.0  # seconds until all of Ray knows a new GPU; earlier, Ray warns that no node has one
NOTIFY_SECONDS = 30.0  # seconds between two messages while waiting

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Pool:
    """Number and placement of the encoder actors of a run.

    Attributes:
        max_encoders: maximum number of encoders, 1 or more. With `run.gpus: auto` it is the number of chunks, since
            further nodes may join.
        planned: expected number of encoders, 1 to `max_encoders`, for the GPUs or nodes that the cluster has or may
            get.
        initial: number of encoders that start at once, 1 to `planned`.
        on_gpus: whether encoders run on GPUs.
        threads: CPU threads per encoder; None (default) on GPUs.
        autoscaled: whether GPUs are requested from an autoscaler. Default False.
        encoders_per_gpu: number of encoders that share one GPU. Default 1.
        limits: maximum numbers of chunks of one encoder. Default: those on CPUs.
    """

    max_encoders: int
    planned: int
    initial: int
    on_gpus: bool
    threads: int | None = None
    autoscaled: bool = False
    encoders_per_gpu: int = 1
    limits: Limits = CPU_LIMITS

    def gpus_for(self, chunks: int) -> int:
        """Return the number of GPUs needed for the given number of remaining chunks."""
        return math.ceil(min(self.planned, chunks) / self.encoders_per_gpu)

    @property
    def strategy(self) -> Any:
        """The pool as a compute strategy of Ray Data."""
        import ray.data

        calls = self.limits.calls
        threads: dict[str, Any] = {"max_concurrent_calls_per_actor": calls, "enable_true_multi_threading": True}
        if not self.on_gpus:
            return ray.data.ActorPoolStrategy(**threads, size=self.max_encoders)
        # By default an encoder also queues as many further chunks, which no other encoder could take.
        growing = {"min_size": 1, "max_size": self.max_encoders, "initial_size": self.initial}
        return ray.data.ActorPoolStrategy(**threads, **growing, max_tasks_in_flight_per_actor=calls)

    @property
    def options(self) -> dict[str, Any]:
        """Ray options of one encoder: a share of a GPU, or 0.01 of a core, which places it on a node with cores."""
        if self.on_gpus:
            share = math.floor(10_000 / self.encoders_per_gpu) / 10_000  # Ray keeps four decimals
            return {"num_gpus": share, "num_cpus": 0}  # Ray Data's default is one core each
        return {
            "num_cpus": 0.01,
            "scheduling_strategy": "SPREAD",  # one encoder per node; by default Ray fills the first node
            "runtime_env": {"env_vars": KEEP_FREED_MEMORY | WITHOUT_GPUS},
        }

    @property
    def device(self) -> str:
        """Device of the encoders: cuda, mps or cpu."""
        here = best_device() if self.on_gpus else "cpu"
        return "cuda" if self.on_gpus and here == "cpu" else here  # the driver's node may have no GPU


def check_gpus() -> None:
    """Refuse a cluster with a node that declares GPUs of which PyTorch can use none; encoders check nodes that join."""
    import ray

    affinity, task = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy, ray.remote(num_cpus=0)(_gpu_fault)
    nodes = [(node["NodeID"], int(node["Resources"].get("GPU", 0))) for node in alive_nodes()]
    asked = [
        task.options(scheduling_strategy=affinity(name, soft=False)).remote(count) for name, count in nodes if count
    ]
    with suppress(ray.exceptions.RayError):  # a node is lost: encoders check again
        for sentence in filter(None, ray.get(asked)):
            raise IcmBenchError(sentence)


def _gpu_fault(declared: int) -> str:
    """Return a sentence if PyTorch sees no GPU on this node, on which Ray declares some."""
    if torch_gpus(hidden=True):
        return ""
    where = f"The node {node_name()}: " if len(alive_nodes()) > 1 else ""
    return where + unusable_gpus(declared)


def pool_for(run: RunSpec, work: int, notify: Notify) -> Pool:
    """Return the pool for `work` chunks, after waiting until its first encoder can start. Requires a connection to Ray.

    Raises:
        IcmBenchError: GPUs are required and not available, no GPU joined within `run.wait_for_gpus`, or the recipe sets
            `run.actors` (encoders on CPUs) although the cluster has GPUs.
    """
    gpus, autoscaled = _wanted_gpus(run, notify)
    if not gpus:
        nodes, cores = cpu_nodes()
        actors = min(run.actors or nodes, work)
        return Pool(actors, actors, actors, on_gpus=False, threads=max(1, cores // math.ceil(actors / nodes)))
    if run.actors:
        raise IcmBenchError(
            f"run.actors: it is the number of encoders on CPUs, and the cluster has {gpus} GPUs; replace it by "
            f"run.gpus, or set run.device: cpu."
        )
    per_gpu = run.encoders_per_gpu
    planned = min(gpus * per_gpu, work)
    if autoscaled:
        _wait_for_first(run, math.ceil(planned / per_gpu), notify)
    max_encoders = work if run.gpus == "auto" else min(run.gpus * per_gpu, work)
    initial = max(1, min(gpu_count() * per_gpu, planned))
    return Pool(max_encoders, planned, initial, on_gpus=True, autoscaled=autoscaled, encoders_per_gpu=per_gpu)


def limits_on_gpus(chunk: tuple[int, int], batch_size: int, block: int, part: int, share: int) -> Limits:
    """Return the limits of an encoder on a GPU.

    Args:
        chunk: images and views of a chunk.
        batch_size: views of a batch of the device.
        block: bytes of a decoded chunk.
        part: bytes of the embeddings of one view of a chunk.
        share: maximum number of calls, for the sake of encoders that join later; but three calls are always allowed.
    """
    images, views = chunk
    batches = [math.ceil(number * batch_size / (images * views)) for number in (2, 3)]
    writes = max(views, min(MAX_WRITES, MAX_WRITE_BYTES // part))
    begun = max(1, batches[0]) + writes // views
    waiting = max(QUEUED_CHUNKS, batches[1] - batches[0])
    calls = max(3, min(begun + waiting, MAX_CALL_BYTES // block, share))
    return Limits(calls, staged=max(2, batches[1]) + 1, begun=begun, writes=writes)


def _wanted_gpus(run: RunSpec, notify: Notify) -> tuple[int, bool]:
    """Return the number of GPUs to use (0: encode on CPUs), and whether an autoscaler must add some of them."""
    if run.device == "cpu":
        return 0, False
    there, allowed = gpu_count(), autoscaled_gpus()
    reach = max(there, allowed or 0)
    why = "the autoscaler's limit is unknown" if allowed is None else "no autoscaler can add one"
    if run.device == "auto" and run.gpus == "auto":
        if not reach and os.environ.get("RAY_ADDRESS"):
            notify(f"encoding on CPUs: no node has a GPU, and {why} (run.device: gpu requires one)")
        return reach, reach > there
    if not reach and allowed is not None:
        asked = "run.device is gpu" if run.gpus == "auto" else f"run.gpus is {run.gpus}"
        raise IcmBenchError(
            f"{asked}: no node has a GPU, and {why}; add a node type with GPUs to the cluster's configuration "
            f"(available_node_types, max_workers), or set run.device: cpu in the recipe."
        )
    wanted = run.gpus if run.gpus != "auto" else reach or 1
    if allowed is not None and wanted > reach:
        notify(f"using {reach} GPUs instead of {wanted}: the cluster cannot have more")
        wanted = reach
    return wanted, wanted > there


def _wait_for_first(run: RunSpec, wanted: int, notify: Notify) -> None:
    began = requested_at = notified_at = time.monotonic()
    request_gpus(wanted)
    if not gpu_count():
        notify(f"requested {wanted} GPUs; waiting up to {run.wait_for_gpus:.0f} s for the first")
    while not gpu_count():
        now = time.monotonic()
        if now - began > run.wait_for_gpus:
            request_gpus(0)
            raise IcmBenchError(
                f"No GPU joined the cluster within {run.wait_for_gpus:.0f} s; {wanted} were requested from the "
                f"autoscaler. See `ray status` for the reason; raise run.wait_for_gpus, or set run.device: cpu."
            )
        if now - requested_at > REQUEST_SECONDS:
            requested_at = now
            request_gpus(wanted)
        if now - notified_at > NOTIFY_SECONDS:
            notified_at = now
            notify(f"no GPU yet after {now - began:.0f} s")
        time.sleep(0.5)
    time.sleep(SETTLE_SECONDS)


def decoder_count() -> int:
    """Return the number of chunks that are decoded at the same time. Requires a connection to Ray."""
    nodes, cores = cpu_nodes()
    return math.ceil(nodes * cores / DECODER_CORES)


@contextmanager
def bounded_memory(pool: Pool, block: int) -> Iterator[None]:
    """Limit the memory of decoded chunks inside the block, but leave enough to keep the encoders busy.

    `block` is the size of a decoded chunk in bytes.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    options, scaling = context.execution_options, context.autoscaling_config
    before = options.resource_limits, context.target_max_block_size
    thresholds = scaling.actor_pool_util_upscaling_threshold, scaling.actor_pool_util_downscaling_threshold
    held, poll = context._max_num_blocks_in_streaming_gen_buffer, context.memory_usage_poll_interval_s
    decoders = decoder_count()
    hold = max(2, HELD_CHUNKS // decoders) if pool.on_gpus else 2
    context._max_num_blocks_in_streaming_gen_buffer = hold
    context.memory_usage_poll_interval_s = None  # it starts a thread in each call
    # Ray reserves two blocks of this size for each call in flight. With the default of 128 MiB, the reservations could
    # exceed a tight limit, so that nothing would start.
    context.target_max_block_size = max(2**20, block)
    waiting = (pool.limits.calls + 1) * pool.planned + (hold - 1) * decoders + 8
    options.resource_limits = before[0].copy(object_store_memory=max(2**28, waiting * 2 * block))
    # The pool takes a new GPU when all encoders have three calls. It returns no GPU while chunks wait: an encoder that
    # is idle for a moment would otherwise have to load its model again.
    scaling.actor_pool_util_upscaling_threshold = CPU_LIMITS.calls / pool.limits.calls
    scaling.actor_pool_util_downscaling_threshold = -1.0
    try:
        with warnings.catch_warnings():  # Ray Data has no other argument that spreads actors over nodes
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            yield
    finally:
        options.resource_limits, context.target_max_block_size = before
        context._max_num_blocks_in_streaming_gen_buffer, context.memory_usage_poll_interval_s = held, poll
        scaling.actor_pool_util_upscaling_threshold, scaling.actor_pool_util_downscaling_threshold = thresholds
