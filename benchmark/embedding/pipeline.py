"""The embedding stage on Ray Data: CPUs decode, an encoder actor makes and encodes all views, parts are written.

The parts of a chunk are written while the next chunk is encoded, so that a killed run costs each encoder two chunks.
"""

import os
import platform
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from threading import Event, Semaphore
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
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
from benchmark.embedding.chunks import Chunk, ChunkCounts, Chunks, DecodedChunk, EncoderFigures
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.images import Geometry, model_input, model_input_views
from benchmark.embedding.ledger import open_ledger
from benchmark.embedding.opening import UnreadableImage
from benchmark.embedding.pool import DECODER_CORES, LAST, TOGETHER, Pool, bounded_memory, decoders, pool_for
from benchmark.embedding.speed import EmbedReport, Speed, Tally
from benchmark.embedding.stages import count, results, staged
from benchmark.embedding.watch import Told, Watch
from benchmark.embedding.watchdog import Watchdog
from benchmark.recipe.specs import RunSpec
from benchmark.store import embeddings as store
from benchmark.store.embeddings import DEFAULT_DECODING, Decoding, View
from benchmark.store.made import Made, new_name, take_over
from benchmark.store.sealed import problem_by, read_json

LOOKED = 60.0  # seconds for which an object store is not asked once more whether a chunk is done
LOOKED_FOR = 16  # of so many chunks one is looked for in an object store, where no other writer was met


@dataclass(frozen=True)
class EmbedJob:
    """What is to be embedded, how, and where to.

    Attributes:
        facts: what is known of the backbone's weights; those that workers load must be the same.
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
    facts: BackboneFacts
    decoding: Decoding

    def views_in(self, bits: int) -> list[View]:
        """Return the views that a bit mask names."""
        return [view for i, view in enumerate(self.views) if bits >> i & 1]


def embed(job: EmbedJob, run: RunSpec, encoder: type = Encoder, began: float | None = None) -> EmbedReport:
    """Embed what the store lacks of a job's views and return what was done. In a block of `connected`.

    `began` is the time of day from which `Speed.first_embedding` counts: by default now. Measurements of the pipeline
    alone give another class of `encoder`.

    Raises:
        IcmBenchError: the share of unreadable images exceeds `run.max_bad_images` (everything else is kept), or the
            store cannot be written, or a worker failed: the sentence is its own.
    """
    began = began or time.time()
    report = EmbedReport(images=job.manifest.table.num_rows)
    chunks, reused = _lacking_chunks(job)
    report.reused = report.total = reused
    about: dict[str, Any] = {"dataset": job.manifest.name, "backbone": job.facts.label}
    about |= {name: getattr(job.facts, name) for name in ("random_weights", "dim", "precision")}
    for view in job.views:  # views that do not say what they are would be cleaned away
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


def _lacking_chunks(job: EmbedJob) -> tuple[Chunks, int]:
    """Return the chunks that lack views, and the number of (image, view) pairs that exist."""
    distinct, first = job.manifest.table.select(rows.IMAGE_COLUMNS), store.distinct(job.manifest.table["image_id"])
    distinct = distinct if len(first) == len(distinct) else distinct.take(first)
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
    numbers = np.flatnonzero(todo)
    return Chunks(distinct, size, numbers, todo[numbers]), reused


def _stream(chunks: Chunks, reused: int, job: EmbedJob, run: RunSpec, encoder: type) -> tuple[Speed, Made]:
    """Run the pipeline over `chunks`; return its speed, `first_embedding` a time of day still, and what was made."""
    began, manifest, facts = time.time(), job.manifest, job.facts
    geometry = Geometry.of(facts.preprocess)
    work = Work(job.storage, manifest.reader, job.views, geometry, facts, job.decoding)
    progress = Progress(f"embedding {manifest.name} with {facts.label}", chunks.pairs, "views")
    pool = pool_for(run, len(chunks), progress.notify)
    views, total = tuple(view.directory for view in job.views), reused + chunks.pairs
    made = Made(new_name(), platform.node(), manifest.name, facts.label, views, reused=reused, total=total)
    ledger = open_ledger(made.name, take_over(job.storage, views))
    timeout = None if run.chunk_timeout == "auto" else run.chunk_timeout
    told = Told(job.storage, ledger, pool, progress.notify, pool.on_gpus or len(alive_nodes()) > 1, timeout)
    high, wide = geometry.size
    block = min(chunks.size, len(chunks.images)) * (len(job.views) if job.decoding.at_source else 1) * high * wide * 3
    speed = Speed(cores=pool.threads or 0, device=pool.device)
    tally = Tally(speed, progress)
    arguments = job.spec, facts, job.views, run.batch_size, pool.threads, run.compile
    encode = work, encoder, arguments, ledger, made.name, timeout
    with (
        bounded_memory(pool, block),
        Watch(made, told, len(chunks)) as watch,
        closing(_counts(chunks, pool, work, encode)) as every,
    ):
        for counts in every:
            tally.add(counts)
            watch.came(counts)
            retries.count(retries.Retries(counts.retries, counts.waited_s))
    tally.close(sum(bool(by.chunks) and not by.silent for by in watch.made.encoders))
    speed.start_up -= began
    progress.close()
    return speed, watch.made


def _counts(chunks: Chunks, pool: Pool, work: Work, encode: tuple[Any, ...]) -> Generator[ChunkCounts]:
    """Run the two stages of Ray Data and yield what came of each chunk; `encode` is what the encoder actor takes."""
    import ray
    import ray.data  # takes a second, which a run that embeds nothing need not wait

    # Where another process fills the same store, the two should not do the same chunks at the same time.
    todo = chunks.rows(first=os.getpid() % len(chunks), together=TOGETHER, alone=LAST * decoders())
    images = ray.put(chunks.images)  # once on each node, where tasks read it in place
    by_row: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    source, given = ray.data.from_arrow(todo), (work, images, chunks.size)
    decoded = source.map_batches(_decode, fn_args=given, num_cpus=DECODER_CORES, **by_row)
    options = {"compute": pool.strategy, **by_row, **pool.options}
    done = decoded.map_batches(_EncodeAndWrite, fn_constructor_args=encode, **options)
    with closing(results(done)) as tables:
        for table in tables:
            yield from ChunkCounts.from_rows(table)


def _decode(table: pa.Table, work: Work, images: Any, size: int) -> pa.Table:
    """Read, decode, resize and crop the images of a chunk; a bad one becomes a reason, not an exception."""
    import ray

    return staged(lambda row: _decoded(Chunk.cut(row, ray.get(images), size), work).to_row(), table, rows.DECODED)


def _decoded(chunk: Chunk, work: Work) -> DecodedChunk:
    start = time.perf_counter()
    looked, images, lacking = time.time(), chunk.images.to_pydict(), _still_lacking(chunk, work)
    missing = work.views_in(lacking)
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
                    pixels[i] = model_input_views(content, work.geometry, images["image_id"][i], kinds, formats)
                else:
                    pixels[i] = model_input(content, work.geometry, work.decoding.reduced, formats)
        except UnreadableImage as error:
            reasons[i] = str(error)
    seconds, again = time.perf_counter() - start, retries.taken()
    count("images_decoded", len(chunk.images) if missing else 0)
    return DecodedChunk(
        chunk.number, chunk.todo, chunk.images, lacking, reasons, pixels, seconds,
        looked=looked, retries=again.count, waited_s=again.seconds,
    )  # fmt: skip


# Set once this process has met a chunk that another one has made: from then on all are looked for.
_met_others = Event()


def _still_lacking(chunk: Chunk, work: Work) -> int:
    """Return the views that the chunk lacks by now, as bits: another process may have filled in some.

    In an object store, where each look takes a request, some chunks are looked for until one of another process is met:
    what two have made is written once. Of a chunk one part is looked for, and the others where it is there.
    """
    local, bits = work.storage.is_local, chunk.todo
    # Others for each process, so that none of them gets all or none.
    if not (local or _met_others.is_set() or (chunk.number + os.getpid()) % LOOKED_FOR == 0):
        return bits
    for i, view in enumerate(work.views):
        if not bits >> i & 1:
            continue
        if work.storage.exists(store.part_name(view.directory, chunk.number)):
            bits &= ~(1 << i)
        elif not local:
            break
    if bits != chunk.todo:
        _met_others.set()
    return bits


class _EncodeAndWrite:
    """The actor: while a chunk is written the next is encoded, and none after it, so that a kill costs two at most.

    Ray calls from several threads, of which one writes, another waits for the encoder and a third fetches. The encoder
    lives in a thread of its own: torch keeps a team of cores for each thread that computes, and two teams would be in
    each other's way.
    """

    def __init__(
        self, work: Work, encoder: type, arguments: tuple[Any, ...], ledger: Any, run: str, timeout: float | None
    ) -> None:
        import ray

        self._watchdog, self._ledger, self._run = Watchdog(timeout), ledger, run
        self._host, self._device = node_name(), device_of_worker()
        actor = ray.get_runtime_context().get_actor_id() or ""  # none outside of an actor
        entered = ledger.enter.remote(run, actor, self._host, self._device)
        self._work, self._thread = work, ThreadPoolExecutor(max_workers=1)
        self._writers = ThreadPoolExecutor(max_workers=len(work.views))
        self._writing = Semaphore()  # held from the moment at which a chunk is encoded until it is written
        self._encoder = self._thread.submit(encoder, *arguments)
        self._encoder.exception()  # waits until it is there; why it could not start is told where a chunk comes
        self._number: int = ray.get(entered)
        ledger.ready.remote(run, self._number)
        self._watchdog.rest()

    def __call__(self, table: pa.Table) -> pa.Table:
        return staged(self._embedded, table, rows.COUNTS)

    def _embedded(self, table: pa.Table) -> pa.Table:
        import ray

        chunk = DecodedChunk.from_row(table)
        with during(f"embedding chunk {chunk.number}, from {chunk.images['path'][0]} on"):
            stale = self._work.storage.is_local or _met_others.is_set() or time.time() - chunk.looked > LOOKED
            if stale and not _still_lacking(chunk, self._work):  # it comes again where an actor died after writing it
                chunk = replace(chunk, lacking=0)
            embeddings, figures, tries = self._thread.submit(self._encode, chunk).result()
            try:  # all parts at once: on an object store each takes a round trip
                for written in [self._writers.submit(write) for write in _parts(chunk, embeddings, self._work)]:
                    if not written.result():
                        _met_others.set()
            finally:
                self._writing.release()
            if chunk.lacking:
                ray.get(self._ledger.written.remote(self._run, self._number, chunk.number))
        images, readable, again = len(chunk.images), len(chunk.readable), retries.taken()
        made, todo = chunk.lacking.bit_count(), chunk.todo.bit_count()
        there = readable * (todo - made)
        ours = tries > (made > 0)  # an encoder of this run had begun it before
        count("views_embedded", readable * made, self._device)
        count("views_computed_again", readable * made if made and ours else 0, self._device)
        return ChunkCounts(
            number=chunk.number,
            encoder=self._number,
            host=self._host,
            device=self._device,
            tries=tries,
            images=images,
            decoded=images if chunk.lacking else 0,
            views=readable * made,
            before=there if ours else 0,
            others=0 if ours else there,
            unreadable=(images - readable) * todo,
            finished=images * todo,
            decode_s=chunk.decode_s,
            retries=chunk.retries + again.count,
            waited_s=chunk.waited_s + again.seconds,
            **asdict(figures),
        ).to_row()

    def _encode(self, chunk: DecodedChunk) -> tuple[NDArray[np.float32], EncoderFigures, int]:
        """Encode a chunk, and do not return, nor begin the next, before the one before it is written."""
        import ray

        encoder = self._encoder.result()
        if chunk.lacking:
            tries = self._ledger.begin.remote(self._run, self._number, chunk.number)
        else:
            tries = self._ledger.begun.remote(self._run, chunk.number)
        with self._watchdog.chunk():
            embeddings, figures = encoder(chunk)
        self._writing.acquire()
        return embeddings, figures, ray.get(tries)


def _parts(chunk: DecodedChunk, embeddings: NDArray[np.float32], work: Work) -> Iterator[Callable[[], bool]]:
    """Yield what writes a chunk's parts, one for each view that it lacked."""
    unreadable = np.setdiff1d(np.arange(len(chunk.images)), chunk.readable)
    images = chunk.images.to_pydict()
    rejected = [(images["image_id"][i], images["path"][i], chunk.reasons[i]) for i in unreadable]
    readable = pa.Table.from_batches([chunk.images]).take(chunk.readable)
    columns = {name: readable[name] for name in ("image_id", "environment", "class_name", "label")}
    value_type = pa.float16() if work.facts.precision == "float16" else pa.float32()
    for position, view in enumerate(work.views_in(chunk.lacking)):
        values = embeddings[chunk.readable, position].astype(value_type.to_pandas_dtype())
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), value_type), embeddings.shape[-1])
        table = pa.table(
            {**columns, "view": pa.array([view.label] * len(values), pa.string()), "embedding": embedding},
            metadata={"engine": work.facts.engine},
        )
        yield partial(store.write_part, work.storage, view, chunk.number, table, rejected)


def _collect_rejected(job: EmbedJob, run: RunSpec, report: EmbedReport) -> None:
    """Read which images were rejected, now or before, and fail if they are too many."""
    rejected, manifest = store.rejected(job.storage, job.views), job.manifest
    named = manifest.table.select(["image_id", "path"])
    named = named.filter(pc.is_in(named["image_id"], value_set=pa.array([*rejected], pa.string())))
    report.rejected = {row["path"]: rejected[row["image_id"]][1] for row in named.to_pylist()}
    if len(report.rejected) > run.max_bad_images * report.images:
        path, reason = next(iter(report.rejected.items()))
        raise IcmBenchError(
            f"{len(report.rejected)} of {report.images} images of {manifest.name} cannot be read, more than "
            f"{run.max_bad_images:.0%}; the first is {manifest.place(path)} ({reason}): replace them, or raise "
            f"run.max_bad_images."
        )
