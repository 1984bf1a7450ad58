"""The embedding pipeline on Ray Data: CPU tasks decode images; encoder actors make all views, encode and write them.

With `decoding.at_source` the CPU tasks make the views, at full resolution.

Parts are written while the next chunks are encoded. A killed run loses at most two chunks of each encoder on a CPU; of
one on a GPU at most two chunks, or three batches if that is more, and the parts that are being written.
"""

import math
import os
import platform
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.loading import check_finite
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import during
from benchmark.common.ray.cluster import alive_nodes, connect, device_of_worker, node_name
from benchmark.common.storage import retries
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.readers import ImageReader
from benchmark.embedding import chunks as rows
from benchmark.embedding import pool as pools
from benchmark.embedding.batching import BatchEncoder, Batcher, Limits
from benchmark.embedding.chunks import Chunk, ChunkCounts, Chunks, DecodedChunk
from benchmark.embedding.encoder import GPU_BATCH, Encoder
from benchmark.embedding.images import Geometry, model_input, model_input_views
from benchmark.embedding.ledger import open_ledger
from benchmark.embedding.opening import UnreadableImage
from benchmark.embedding.pool import Pool, bounded_memory, check_gpus, decoder_count, limits_on_gpus, pool_for
from benchmark.embedding.speed import EmbedReport, Speed, Tally
from benchmark.embedding.stages import count, results, run_stage
from benchmark.embedding.watch import Watch, WatchedRun
from benchmark.embedding.watchdog import Watchdog
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import DEFAULT_DECODING, Decoding, View
from benchmark.store.made import Made, new_name, take_over
from benchmark.store.sealed import problem_by, read_json

RECHECK_SECONDS = 60.0  # age after which the check for missing views in an object store is repeated
SHARES = 4  # an encoder on a GPU holds at most one of so many parts of its share of the chunks, as others may join
FLOAT16_MAX = 65504.0  # the largest value of float16
CHECK_EVERY = 16  # in an object store, one of so many chunks is checked for another writer, until one is found


@dataclass(frozen=True)
class EmbedJob:
    """An embedding job: the store, the images, the backbone and the views.

    Attributes:
        facts: facts of the backbone's weights; workers must load the same weights.
        views: the views of every image; embeddings in the store are reused.
        decoding: how images are decoded. It must be the decoding with which `views` were made, see `view_of`.
    """

    storage: Storage
    manifest: Manifest
    spec: BackboneSpec
    facts: BackboneFacts
    views: tuple[View, ...]
    decoding: Decoding = DEFAULT_DECODING


@dataclass(frozen=True)
class Work:
    """The part of a job that all workers receive; the images are sent separately."""

    storage: Storage
    reader: ImageReader
    views: tuple[View, ...]
    geometry: Geometry
    facts: BackboneFacts
    decoding: Decoding

    def views_in(self, bits: int) -> list[View]:
        """Return the views in a bit mask: bit i is view i."""
        return [view for i, view in enumerate(self.views) if bits >> i & 1]


def embed(job: EmbedJob, run: RunSpec, encoder: type = Encoder, began: float | None = None) -> EmbedReport:
    """Embed the missing views of a job and return a report. Call it in a block of `connected`.

    `began` is the Unix time from which `Speed.first_embedding` is measured. Default: now. `encoder` is the class that
    encodes chunks; only benchmarks of the pipeline use another class than `Encoder`.

    Raises:
        IcmBenchError: the share of unreadable images exceeds `run.max_bad_images` (finished embeddings are kept), the
            store cannot be written, or a worker raised this error.
    """
    began = began or time.time()
    report = EmbedReport(images=job.manifest.table.num_rows)
    chunks, reused = _missing_chunks(job)
    report.reused = report.total = reused
    about: dict[str, Any] = {"dataset": job.manifest.name, "backbone": job.facts.label}
    about |= {name: getattr(job.facts, name) for name in ("random_weights", "dim", "precision")}
    for view in job.views:  # `store clean` removes views without this file
        if chunks or problem_by(read_json, job.storage, store.about_file(view.directory)):
            store.write_about(job.storage, view, about)
    if chunks:
        connect()
        report.speed, made = _stream(chunks, reused, job, run, encoder)
        report.speed.first_embedding -= began
        for name in ("embedded", "reused", "lost", "unreadable", "total"):
            setattr(report, name, getattr(made, name))
        names = ("torch", "open_clip_torch", "torchvision", "pillow", "ray", "numpy")
        machine = {"machine_cores": os.cpu_count(), "versions": {name: version(name) for name in names}}
        for view in job.views:
            store.write_speed(job.storage, view, {**asdict(report.speed), **machine})
    _collect_rejected(job, run, report)
    return report


def _missing_chunks(job: EmbedJob) -> tuple[Chunks, int]:
    """Return the chunks with missing views, and the number of (image, view) pairs that are in the store."""
    distinct, first = job.manifest.table.select(rows.IMAGE_COLUMNS), store.distinct(job.manifest.table["image_id"])
    distinct = distinct if len(first) == len(distinct) else distinct.take(first)
    size, count = store.chunk_size(len(distinct)), store.chunk_count(len(distinct))
    missing = np.zeros(count, dtype=np.int64)
    reused = 0
    for bit, view in enumerate(job.views):
        there = store.parts(job.storage, view.directory)
        for chunk in range(count):
            if chunk in there:
                reused += min(size, len(distinct) - chunk * size)
            else:
                missing[chunk] |= 1 << bit
    numbers = np.flatnonzero(missing)
    return Chunks(distinct, size, numbers, missing[numbers]), reused


def _stream(chunks: Chunks, reused: int, job: EmbedJob, run: RunSpec, encoder: type) -> tuple[Speed, Made]:
    """Run the pipeline over `chunks`; return the speed (with `first_embedding` as Unix time) and the run's record."""
    began, manifest, facts = time.time(), job.manifest, job.facts
    geometry = Geometry.of(facts.preprocess)
    work = Work(job.storage, manifest.reader, job.views, geometry, facts, job.decoding)
    progress = Progress(f"embedding {manifest.name} with {facts.label}", chunks.pairs, "views")
    pool = pool_for(run, len(chunks), progress.notify)
    if pool.on_gpus and encoder is Encoder:  # encoders of benchmarks use no GPU
        check_gpus()
    views, total = tuple(view.directory for view in job.views), reused + chunks.pairs
    made = Made(new_name(), platform.node(), manifest.name, facts.label, views, reused=reused, total=total)
    ledger = open_ledger(made.name, take_over(job.storage, views))
    timeout = None if run.chunk_timeout == "auto" else run.chunk_timeout
    watched = WatchedRun(job.storage, ledger, pool, progress.notify, pool.on_gpus or len(alive_nodes()) > 1, timeout)
    high, wide = geometry.size
    images, count = min(chunks.size, len(chunks.images)), len(job.views)
    block = images * (count if job.decoding.at_source else 1) * high * wide * 3
    if pool.on_gpus:
        batch, share = run.batch_size or GPU_BATCH, math.ceil(len(chunks) / (SHARES * pool.planned))
        pool = replace(pool, limits=limits_on_gpus((images, count), batch, block, 4 * images * facts.dim, share))
    speed = Speed(cores=pool.threads or 0, device=pool.device)
    tally = Tally(speed, progress)
    arguments = job.spec, facts, job.views, run.batch_size, pool.threads, run.compile
    encode = work, partial(encoder, *arguments), pool.limits, ledger, made.name, timeout
    with (
        bounded_memory(pool, block),
        Watch(made, watched, len(chunks)) as watch,
        closing(_counts(chunks, pool, work, encode)) as every,
    ):
        for counts in every:
            tally.add(counts)
            watch.add(counts)
            retries.count(retries.Retries(counts.retries, counts.waited_s))
    tally.close(sum(bool(by.chunks) and not by.silent for by in watch.made.encoders))
    speed.start_up -= began
    progress.close()
    return speed, watch.made


def _counts(chunks: Chunks, pool: Pool, work: Work, encode: tuple[Any, ...]) -> Generator[ChunkCounts]:
    """Run both stages of Ray Data and yield the counts of each chunk; `encode`: arguments of `_EncodeAndWrite`."""
    import ray
    import ray.data  # takes a second, and is imported only if there is something to embed

    # The first chunk depends on the process id, so that two processes with one store begin with different chunks.
    first, single_tasks = os.getpid() % len(chunks), pools.SINGLE_CHUNK_TASKS * decoder_count()
    tasks = chunks.rows(first, pools.CHUNKS_PER_TASK, single_tasks)
    images = ray.put(chunks.images)  # copied once to each node, where tasks read it in place
    by_row: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    source, given = ray.data.from_arrow(tasks), (work, images, chunks.size)
    decoded = source.map_batches(_decode, fn_args=given, num_cpus=pools.DECODER_CORES, **by_row)
    options = {"compute": pool.strategy, **by_row, **pool.options}
    done = decoded.map_batches(_EncodeAndWrite, fn_constructor_args=encode, **options)
    with closing(results(done)) as tables:
        for table in tables:
            yield from ChunkCounts.from_rows(table)


def _decode(table: pa.Table, work: Work, images: Any, size: int) -> pa.Table:
    """Read, decode, resize and crop the images of a chunk. An unreadable image gives a reason, not an exception."""
    import ray

    return run_stage(lambda row: _decoded(Chunk.cut(row, ray.get(images), size), work).to_row(), table, rows.DECODED)


def _decoded(chunk: Chunk, work: Work) -> DecodedChunk:
    start = time.perf_counter()
    checked_at, images, missing_views = time.time(), chunk.images.to_pydict(), _still_missing(chunk, work)
    missing = work.views_in(missing_views)
    at_source, formats = work.decoding.at_source, work.reader.formats
    views_made_here = (len(missing),) if at_source else ()
    pixels = np.zeros((len(chunk.images), *views_made_here, *work.geometry.size, 3), dtype=np.uint8)
    reasons = [""] * len(chunk.images)
    for i, content in enumerate(work.reader.read(images) if missing else ()):
        try:
            if isinstance(content, str):
                raise UnreadableImage(content)
            with during(f"reading {images['path'][i]}"):
                if at_source:
                    kinds = [(view.intervention, view.seed) for view in missing]
                    image_id = images["image_id"][i]
                    pixels[i] = model_input_views(content, work.geometry, work.decoding, image_id, kinds, formats)
                else:
                    pixels[i] = model_input(content, work.geometry, work.decoding, formats)
        except UnreadableImage as error:
            reasons[i] = str(error)
    draws = [] if at_source else [_draws(view, images["image_id"]) for view in missing]
    seconds, again = time.perf_counter() - start, retries.take_retries()
    count("images_decoded", len(chunk.images) if missing else 0)
    return DecodedChunk(
        chunk.number, chunk.requested_views, chunk.images, missing_views, reasons, pixels, seconds,
        draws=draws, checked_at=checked_at, retries=again.count, waited_s=again.seconds,
    )  # fmt: skip


def _draws(view: View, image_ids: list[str]) -> NDArray[np.float64]:
    """Return the random parameters of a view's images, shape (images, P), so that encoders need not draw them."""
    return view.intervention.draws(image_ids, view.seed) if view.intervention else np.empty((len(image_ids), 0))


# Set when this process finds a chunk that another process has written; from then on it checks every chunk.
_other_writer_found = Event()


def _still_missing(chunk: Chunk, work: Work) -> int:
    """Return a bit mask of the views that are still missing; another process may have written some.

    In an object store each check is a request. There only some chunks are checked until another writer is found, and
    further parts of a chunk only if its first part exists. A part that two processes compute is written once.
    """
    local, bits = work.storage.is_local, chunk.requested_views
    # Which chunks are checked depends on the process id.
    if not (local or _other_writer_found.is_set() or (chunk.number + os.getpid()) % CHECK_EVERY == 0):
        return bits
    for i, view in enumerate(work.views):
        if not bits >> i & 1:
            continue
        if work.storage.exists(store.part_name(view.directory, chunk.number)):
            bits &= ~(1 << i)
        elif not local:
            break
    if bits != chunk.requested_views:
        _other_writer_found.set()
    return bits


class _EncodeAndWrite:
    """The encoder actor. Ray calls it from several threads, each of which waits for the device and writes its chunk."""

    def __init__(
        self,
        work: Work,
        make: Callable[[], BatchEncoder],
        limits: Limits,
        ledger: Any,
        run: str,
        timeout: float | None,
    ) -> None:
        import ray

        watchdog, self._ledger, self._run = Watchdog(timeout), ledger, run
        self._host, self._device = node_name(), device_of_worker()
        actor = ray.get_runtime_context().get_actor_id() or ""  # empty outside an actor
        registered = ledger.register.remote(run, actor, self._host, self._device)
        self._work, self._tries = work, dict[int, Any]()
        self._writers = ThreadPoolExecutor(limits.writes)
        self._batcher = Batcher(make, limits, watchdog.batch, self._begin)
        self._batcher.wait_for_start()  # the first chunk raises its error
        self._number: int = ray.get(registered)
        ledger.mark_ready.remote(run, self._number)
        watchdog.idle()

    def __call__(self, table: pa.Table) -> pa.Table:
        return run_stage(self._embedded, table, rows.COUNTS)

    def _begin(self, chunk: DecodedChunk) -> None:
        self._tries[chunk.number] = self._ledger.begin_chunk.remote(self._run, self._number, chunk.number)

    def _embedded(self, table: pa.Table) -> pa.Table:
        import ray

        chunk = DecodedChunk.from_row(table)
        with during(f"embedding chunk {chunk.number}, from {chunk.images['path'][0]} on"):
            is_old = time.time() - chunk.checked_at > RECHECK_SECONDS
            recheck = self._work.storage.is_local or _other_writer_found.is_set() or is_old
            # This also finds a chunk that an actor had written before it died.
            if recheck and not _still_missing(chunk, self._work):
                chunk = replace(chunk, missing_views=0)
            embeddings, figures = self._batcher.encode(chunk)
            try:
                check_finite(embeddings, self._work.facts.label, chunk.images["path"].to_pylist())
                # Parts are written in parallel, since an object store takes a round trip for each.
                for written in [self._writers.submit(write) for write in _parts(chunk, embeddings, self._work)]:
                    if not written.result():
                        _other_writer_found.set()
            finally:
                self._batcher.release(chunk)
            begun = self._tries.pop(chunk.number, None) or self._ledger.times_begun.remote(self._run, chunk.number)
            tries: int = ray.get(begun)
            if chunk.missing_views:
                ray.get(self._ledger.mark_written.remote(self._run, self._number, chunk.number))
        images, readable, again = len(chunk.images), len(chunk.readable), retries.take_retries()
        made, requested = chunk.missing_views.bit_count(), chunk.requested_views.bit_count()
        found = readable * (requested - made)
        begun_before = tries > (made > 0)  # whether another encoder of this run began the chunk before
        count("views_embedded", readable * made, self._device)
        count("views_computed_again", readable * made if made and begun_before else 0, self._device)
        return ChunkCounts(
            number=chunk.number,
            encoder=self._number,
            host=self._host,
            device=self._device,
            tries=tries,
            images=images,
            decoded=images if chunk.missing_views else 0,
            views=readable * made,
            written_by_lost=found if begun_before else 0,
            written_by_others=0 if begun_before else found,
            unreadable=(images - readable) * requested,
            finished=images * requested,
            decode_s=chunk.decode_s,
            retries=chunk.retries + again.count,
            waited_s=chunk.waited_s + again.seconds,
            **asdict(figures),
        ).to_row()


def _parts(chunk: DecodedChunk, embeddings: NDArray[np.float32], work: Work) -> Iterator[Callable[[], bool]]:
    """Yield a function for each missing view: it writes the part, and returns False if another writer was first."""
    named = zip(*(chunk.images[name].to_pylist() for name in ("image_id", "path")), chunk.reasons, strict=True)
    rejected = [(image_id, path, why) for image_id, path, why in named if why]
    readable = pa.Table.from_batches([chunk.images]).take(chunk.readable)
    columns = {name: readable[name] for name in ("image_id", "environment", "class_name", "label")}
    # Values of low precision are rounded to less than the 11 bits of float16, which has half the size.
    low = work.facts.precision in ("float16", "bfloat16") and np.abs(embeddings).max(initial=0) < FLOAT16_MAX
    value_type = pa.float16() if low else pa.float32()
    for position, view in enumerate(work.views_in(chunk.missing_views)):
        values = embeddings[chunk.readable, position].astype(value_type.to_pandas_dtype())
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), value_type), embeddings.shape[-1])
        table = pa.table(
            {**columns, "view": pa.array([view.label] * len(values), pa.string()), "embedding": embedding},
            metadata={"engine": work.facts.engine},
        )
        yield partial(store.write_part, work.storage, view, chunk.number, table, rejected)


def _collect_rejected(job: EmbedJob, run: RunSpec, report: EmbedReport) -> None:
    """Add all unreadable images to the report; raise IcmBenchError if they exceed `run.max_bad_images`."""
    rejected, manifest = store.rejected(job.storage, job.views), job.manifest
    named = manifest.table.select(["image_id", "path"])
    named = named.filter(pc.is_in(named["image_id"], value_set=pa.array([*rejected], pa.string())))
    report.rejected = {row["path"]: rejected[row["image_id"]][1] for row in named.to_pylist()}
    if len(report.rejected) > run.max_bad_images * report.images:
        path, reason = next(iter(report.rejected.items()))
        raise IcmBenchError(
            f"{len(report.rejected)} of {report.images} images of {manifest.name} cannot be read, more than "
            f"{run.max_bad_images:.0%}; the first is {manifest.place(path)} ({reason}). Replace them, or raise "
            f"run.max_bad_images."
        )
