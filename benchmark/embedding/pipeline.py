"""The embedding stage on Ray Data: decode on CPUs, all views of an image in one visit of an encoder actor, Parquet out.

The parts of a chunk are written as soon as it is encoded, while the next one is: what a killed run leaves behind is
kept, and of each encoder two chunks at most are computed again.
"""

import logging
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from threading import Semaphore
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import best_device
from benchmark.backbones.spec import BackboneSpec
from benchmark.common import patience
from benchmark.common.cluster import connect, cpu_nodes, gpu_count, gpu_kind
from benchmark.common.errors import IcmBenchError
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.readers import ImageReader
from benchmark.embedding.chunks import COUNTS, DECODED, IMAGE_COLUMNS, Chunk, ChunkCounts, DecodedChunk, EncoderFigures
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.images import Geometry, UnreadableImage, model_input, model_input_views
from benchmark.embedding.speed import EmbedReport, Speed
from benchmark.embedding.stages import results, staged
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import DEFAULT_DECODING, Decoding, View

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
BUFFERED = 4  # decoded chunks that may wait for each encoder actor
# Of a core that a decoding task reserves: two tasks for each core, so that one decodes while Ray hands out the next. On
# a CPU the encoder has the same cores and reserves none of them. How they are shared is found as the run goes: decoding
# goes on while there is room for what waits (`BUFFERED`), so that a fast encoder, which waits, leaves it all cores.
DECODER_CORES = 0.5
LOOKED = 60.0  # seconds for which an object store is not asked once more whether a chunk is done


@dataclass(frozen=True)
class EmbedJob:
    """What is to be embedded, how, and where to.

    Attributes:
        storage: the store that the embeddings are written to.
        manifest: the images.
        spec: which backbone, as a recipe names it.
        facts: what is known of its weights; those that workers load must be the same.
        views: the views to make of every image; what the store has of them is not made again.
        decoding: how images become pixels; that which the keys of `views` were made with.
    """

    storage: Storage
    manifest: Manifest
    spec: BackboneSpec
    facts: BackboneFacts
    views: tuple[View, ...]
    decoding: Decoding = DEFAULT_DECODING


@dataclass(frozen=True)
class Work:
    """What travels to the workers: all that the stages need of a job beside the rows."""

    storage: Storage
    reader: ImageReader
    views: tuple[View, ...]
    geometry: Geometry
    precision: str
    engine: str
    decoding: Decoding


def embed(job: EmbedJob, run: RunSpec, encoder: type = Encoder, began: float | None = None) -> EmbedReport:
    """Embed what the store lacks of a job's views and return what was done. In a block of `connected`.

    Args:
        job: what is to be embedded.
        run: number of actors, batch size and the largest share of unreadable images that is put up with.
        encoder: class of the encoder actor; another one serves measurements of the pipeline alone.
        began: time of day, in seconds since 1970, from which `Speed.first_embedding` counts; by default now.

    Raises:
        IcmBenchError: the share of unreadable images exceeds `run.max_bad_images` (everything else is kept), or the
            store cannot be written, or a worker failed: the sentence is its own.
    """
    began = began or time.time()
    report = EmbedReport(images=job.manifest.table.num_rows)
    chunks, report.reused = _lacking_chunks(job)
    if chunks:
        connect()
        for view in job.views:
            store.write_about(job.storage, view, _about(job.manifest, job.facts))
        report.speed = _stream(chunks, job, run, encoder)
        report.speed.first_embedding -= began
        report.embedded = report.speed.views
        for view in job.views:
            store.write_speed(job.storage, view, {**asdict(report.speed), **_machine()})
    _collect_rejected(job, run, report)
    return report


def _lacking_chunks(job: EmbedJob) -> tuple[list[Chunk], int]:
    """Return the chunks that lack views, and the number of (image, view) pairs that exist."""
    distinct = job.manifest.table.take(store.distinct(job.manifest.table["image_id"].to_pylist()))
    size, count = store.chunk_size(len(distinct)), store.chunk_count(len(distinct))
    todo = np.zeros(count, dtype=np.int64)
    reused = 0
    for bit, view in enumerate(job.views):
        there = store.parts(job.storage, view.directory)
        for chunk in range(count):
            if chunk in there:
                reused += min(size, len(distinct) - chunk * size)
            else:
                todo[chunk] |= 1 << bit
    images = distinct.select(IMAGE_COLUMNS)
    chunks = []
    for number in map(int, np.flatnonzero(todo)):
        (rows,) = images.slice(number * size, size).combine_chunks().to_batches()
        chunks.append(Chunk(number, int(todo[number]), rows))
    return chunks, reused


def _stream(chunks: list[Chunk], job: EmbedJob, run: RunSpec, encoder: type) -> Speed:
    """Run the pipeline over `chunks` and measure what comes out; `first_embedding` is a time of day still."""
    import ray.data  # takes a second, which a run that embeds nothing need not wait

    began = time.time()
    geometry = Geometry.of(job.facts.preprocess)
    work = Work(
        job.storage, job.manifest.reader, job.views, geometry, job.facts.precision, job.facts.engine, job.decoding
    )
    gpus = gpu_count()
    nodes, cores = cpu_nodes()
    actors = min(run.actors or gpus or nodes, len(chunks))
    per_node = math.ceil(actors / nodes)
    threads = None if gpus else max(1, cores // per_node)
    # Where another process fills the same store, the two should not do the same chunks at the same time.
    turn = os.getpid() % len(chunks)
    chunks = chunks[turn:] + chunks[:turn]
    with _bounded_memory(actors, nodes * cores, work, len(chunks[0].images)):
        done = (
            ray.data.from_arrow([chunk.to_row() for chunk in chunks])
            .map_batches(_decode, fn_args=(work,), batch_size=1, batch_format="pyarrow", num_cpus=DECODER_CORES)
            .map_batches(
                _EncodeAndWrite,
                fn_constructor_args=(
                    work,
                    encoder,
                    (job.spec, job.facts, job.views, run.batch_size, threads, run.compile),
                ),
                # Three calls at a time: one chunk is written, the next encoded, and the one after it fetched.
                compute=ray.data.ActorPoolStrategy(
                    size=actors, max_concurrent_calls_per_actor=3, enable_true_multi_threading=True
                ),
                batch_size=1,
                batch_format="pyarrow",
                **actor_options(actors, gpus),
            )
        )
        pairs = sum(len(chunk.images) * chunk.todo.bit_count() for chunk in chunks)
        progress = Progress(f"embedding {job.manifest.name} with {job.facts.label}", pairs, "views")
        speed = Speed(actors=actors, cores=threads or 0, device="cuda" if gpus else best_device())
        speed.gpu = gpu_kind() if gpus else ""
        with closing(results(done)) as tables:
            _measure((counts for table in tables for counts in ChunkCounts.from_rows(table)), speed, progress)
    speed.start_up -= began
    progress.close()
    return speed


def _measure(finished: Iterable[ChunkCounts], speed: Speed, progress: Progress) -> None:
    """Add up the counts of chunks as they come; `start_up` and `first_embedding` are times of day still."""
    total: Counter[str] = Counter()
    ready = first = math.inf
    for counts in finished:
        speed.first_part = speed.first_part or time.time()
        first, ready = min(first, counts.first), min(ready, counts.ready)
        if counts.batch_size < speed.batch_size:
            progress.notify(f"memory ran out: {counts.batch_size} views in a forward pass from now on")
        speed.batch_size = min(speed.batch_size or counts.batch_size, counts.batch_size)
        speed.memory = max(speed.memory, counts.memory)
        total.update({"chunks": 1, **asdict(counts)})
        progress.update(counts.finished, note=f"{total['images']} images")
    patience.count(patience.Retries(total["retries"], total["waited_s"]))
    speed.views = total["views"]
    speed.start_up, speed.seconds = ready, time.time() - ready
    speed.first_embedding, speed.first_part = first, speed.first_part - first
    speed.decode = _rate(total["decoded"], total["decode_s"])
    speed.make_views = _rate(total["views"], total["views_s"])
    speed.encode = _rate(total["views"], total["encode_s"])
    speed.ceiling = total["ceiling"] / max(1, total["chunks"])
    speed.of_gemm = total["of_gemm"] / max(1, total["chunks"])


def _rate(count: float, seconds: float) -> float:
    return count / seconds if seconds else 0.0


@contextmanager
def _bounded_memory(actors: int, cores: int, work: Work, rows: int) -> Iterator[None]:
    """Let only so many decoded chunks wait that encoders never do: memory must not grow with the data set."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    high, wide = work.geometry.size
    views = len(work.views) if work.decoding.at_source else 1
    block = rows * views * high * wide * 3
    before = (context.execution_options.resource_limits, context.target_max_block_size)
    # Ray reserves room for two blocks of this size for each call under way. It is 128 MiB by default, which would
    # leave a tight limit used up by reservations: nothing would ever start.
    context.target_max_block_size = max(2**20, block)
    decoders = math.ceil(cores / DECODER_CORES)
    limit = max(2**28, (BUFFERED * actors + decoders + 8) * 2 * block)
    context.execution_options.resource_limits = before[0].copy(object_store_memory=limit)
    try:
        with warnings.catch_warnings():  # to spread actors over nodes Ray Data has no other argument yet
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            yield
    finally:
        context.execution_options.resource_limits, context.target_max_block_size = before


def actor_options(actors: int, gpus: int) -> dict[str, Any]:
    """Return what one encoder actor reserves: a GPU, or next to nothing of a node that has cores.

    A part of a GPU may be reserved, so that more actors than GPUs start all the same.
    """
    if gpus:
        return {"num_gpus": min(1.0, gpus / actors), "num_cpus": 0}  # Ray Data would take a core for each by itself
    return {
        "num_cpus": 0.01,
        "scheduling_strategy": "SPREAD",  # one to a node, where Ray would fill up the first
        "runtime_env": {"env_vars": KEEP_FREED_MEMORY},
    }


def _decode(table: pa.Table, work: Work) -> pa.Table:
    """Read, decode, resize and crop the images of a chunk; a bad one becomes a reason, not an exception."""
    return staged(lambda row: _decoded(Chunk.from_row(row), work).to_row(), table, DECODED)


def _decoded(chunk: Chunk, work: Work) -> DecodedChunk:
    start = time.perf_counter()
    looked, images, lacking = time.time(), chunk.images.to_pydict(), _still_lacking(chunk, work)
    missing = _views_in(lacking, work)
    at_source = work.decoding.at_source
    views_made_here = (len(missing),) if at_source else ()
    pixels = np.zeros((len(chunk.images), *views_made_here, *work.geometry.size, 3), dtype=np.uint8)
    reasons = [""] * len(chunk.images)
    for i, content in enumerate(work.reader.read(images) if missing else ()):
        try:
            if isinstance(content, str):
                raise UnreadableImage(content)
            if at_source:
                kinds = [(view.intervention, view.seed) for view in missing]
                pixels[i] = model_input_views(content, work.geometry, images["image_id"][i], kinds)
            else:
                pixels[i] = model_input(content, work.geometry, work.decoding.reduced)
        except UnreadableImage as error:
            reasons[i] = str(error)
    seconds, again = time.perf_counter() - start, patience.taken()
    return DecodedChunk(
        chunk.number, chunk.todo, chunk.images, lacking, reasons, pixels, seconds,
        looked=looked, retries=again.count, waited_s=again.seconds,
    )  # fmt: skip


def _still_lacking(chunk: Chunk, work: Work) -> int:
    """Return the views that the chunk lacks by now, as bits: another process may have filled in some.

    In an object store, where each part takes a request, one is looked for, and the others where it is there.
    """
    bits = chunk.todo
    for i, view in enumerate(work.views):
        if not bits >> i & 1:
            continue
        if work.storage.exists(store.part_name(view.directory, chunk.number)):
            bits &= ~(1 << i)
        elif not work.storage.is_local:
            break
    return bits


def _views_in(bits: int, work: Work) -> list[View]:
    return [view for i, view in enumerate(work.views) if bits >> i & 1]


class _EncodeAndWrite:
    """The actor: while a chunk is written the next is encoded, and none after it, so that a kill costs two at most.

    Ray calls from several threads, of which one writes, another waits for the encoder and a third fetches. The encoder
    lives in a thread of its own: torch keeps a team of cores for each thread that computes, and two teams would be in
    each other's way.
    """

    def __init__(self, work: Work, encoder: type, arguments: tuple[Any, ...]) -> None:
        self._work, self._thread = work, ThreadPoolExecutor(max_workers=1)
        self._writers = ThreadPoolExecutor(max_workers=len(work.views))
        self._writing = Semaphore()  # held from the moment at which a chunk is encoded until it is written
        self._encoder = self._thread.submit(encoder, *arguments)
        self._encoder.exception()  # waits until it is there; why it could not start is told where a chunk comes

    def __call__(self, table: pa.Table) -> pa.Table:
        return staged(self._embedded, table, COUNTS)

    def _embedded(self, table: pa.Table) -> pa.Table:
        chunk = DecodedChunk.from_row(table)
        # It comes again where an actor died after writing it.
        if self._is_stale(chunk) and not _still_lacking(chunk, self._work):
            chunk = replace(chunk, lacking=0)
        embeddings, figures = self._thread.submit(self._encode, chunk).result()
        self._write(chunk, embeddings)
        images, again = len(chunk.images), patience.taken()
        return ChunkCounts(
            images=images,
            decoded=images if chunk.lacking else 0,
            views=len(chunk.readable) * chunk.lacking.bit_count(),
            finished=images * chunk.todo.bit_count(),
            decode_s=chunk.decode_s,
            retries=chunk.retries + again.count,
            waited_s=chunk.waited_s + again.seconds,
            **asdict(figures),
        ).to_row()

    def _is_stale(self, chunk: DecodedChunk) -> bool:
        return self._work.storage.is_local or time.time() - chunk.looked > LOOKED

    def _encode(self, chunk: DecodedChunk) -> tuple[NDArray[np.float32], EncoderFigures]:
        """Encode a chunk, and do not return, nor begin the next, before the one before it is written."""
        embeddings, figures = self._encoder.result()(chunk)
        self._writing.acquire()
        return embeddings, figures

    def _write(self, chunk: DecodedChunk, embeddings: NDArray[np.float32]) -> None:
        """Write all parts of a chunk at once: on an object store each takes a round trip."""
        try:
            for written in [self._writers.submit(write) for write in _parts(chunk, embeddings, self._work)]:
                written.result()
        finally:
            self._writing.release()


def _parts(chunk: DecodedChunk, embeddings: NDArray[np.float32], work: Work) -> Iterator[Callable[[], None]]:
    """Yield what writes a chunk's parts, one for each view that it lacked."""
    unreadable = np.setdiff1d(np.arange(len(chunk.images)), chunk.readable)
    images = chunk.images.to_pydict()
    rejected = [(images["image_id"][i], images["path"][i], chunk.reasons[i]) for i in unreadable]
    readable = pa.Table.from_batches([chunk.images]).take(chunk.readable)
    columns = {name: readable[name] for name in ("image_id", "environment", "class_name", "label")}
    value_type = pa.float16() if work.precision == "float16" else pa.float32()
    for position, view in enumerate(_views_in(chunk.lacking, work)):
        values = embeddings[chunk.readable, position].astype(value_type.to_pandas_dtype())
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), value_type), embeddings.shape[-1])
        table = pa.table(
            {**columns, "view": pa.array([view.label] * len(values), pa.string()), "embedding": embedding},
            metadata={"engine": work.engine},
        )
        yield partial(store.write_part, work.storage, view, chunk.number, table, rejected)


def _collect_rejected(job: EmbedJob, run: RunSpec, report: EmbedReport) -> None:
    """Read which images were rejected, now or before, and fail if they are too many."""
    rejected, manifest = store.rejected(job.storage, job.views), job.manifest
    ids = manifest.table["image_id"].to_pylist()
    paths = manifest.table["path"].to_pylist()
    report.rejected = {path: rejected[i][1] for i, path in zip(ids, paths, strict=True) if i in rejected}
    if len(report.rejected) > run.max_bad_images * report.images:
        path, reason = next(iter(report.rejected.items()))
        raise IcmBenchError(
            f"{len(report.rejected)} of {report.images} images of {manifest.name} cannot be read, more than "
            f"{run.max_bad_images:.0%}; the first is {manifest.place(path)} ({reason}): replace them, or raise "
            f"run.max_bad_images."
        )


def _about(manifest: Manifest, facts: BackboneFacts) -> dict[str, Any]:
    return {
        "dataset": manifest.name,
        "backbone": facts.label,
        "random_weights": facts.random_weights,
        "dim": facts.dim,
        "precision": facts.precision,
    }


def _machine() -> dict[str, Any]:
    names = ("torch", "open_clip_torch", "torchvision", "pillow", "ray", "numpy")
    return {"machine_cores": os.cpu_count(), "versions": {name: version(name) for name in names}}
