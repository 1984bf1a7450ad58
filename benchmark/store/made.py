"""The record of how embeddings were made: a file for each run that made some, with a row for each of its chunks.

A run that takes long writes its record again and again under a name that says that it has not ended: once its driver
was killed, this says which chunks were under way.
"""

import json
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.common.storage.files import Storage
from benchmark.store.sealed import DamagedError, open_parquet, sealed_parquet

ROOT = "made"
_OPEN = ".open.parquet"
_KEY = b"icm_bench_made"
_WORD, _WHOLE = pa.dictionary(pa.int32(), pa.string()), pa.int64()
CHUNKS = pa.schema(
    {"chunk": _WHOLE, "host": _WORD, "device": _WORD, "seconds": pa.float64(), "tries": _WHOLE, "again": pa.bool_()}
)


@dataclass(frozen=True)
class MadeBy:
    """An encoder of a run.

    Attributes:
        device: kind of its GPU, `gpu` where that is not known, or `cpu`.
        chunks: number of chunks that it wrote.
        silent: seconds without an answer after which another took its place; 0 for one that worked to the end.
        under_way: chunks that it had begun and not written.
    """

    host: str
    device: str
    chunks: int
    silent: float = 0.0
    under_way: tuple[int, ...] = ()


@dataclass(frozen=True)
class Made:
    """What a run made.

    Attributes:
        name: of the run, unique: the time of its start (UTC) and a random number.
        driver: name of the machine of its driver.
        views: directories of the views that it wrote to.
        embedded: number of (image, view) pairs that were computed once.
        reused: number of pairs that the store had.
        lost: number of pairs that were computed again, since an encoder was lost that had begun them.
        unreadable: number of pairs whose image cannot be read.
        total: number of pairs of distinct images and views: the sum of these four, once the run has ended.
        encoders: who encoded, in the order in which they came.
        chunks: a row for each chunk, with the columns of `CHUNKS`: `seconds` is what the encoder took, `tries` how
            often encoders began it, `again` whether it was computed again.
        ended: whether the run came to its end.
    """

    name: str
    driver: str
    dataset: str
    backbone: str
    views: tuple[str, ...]
    embedded: int = 0
    reused: int = 0
    lost: int = 0
    unreadable: int = 0
    total: int = 0
    encoders: tuple[MadeBy, ...] = ()
    chunks: pa.Table = field(default_factory=CHUNKS.empty_table, compare=False)
    ended: bool = False

    def text(self) -> list[str]:
        """Return it in some lines: what was made, by whom, what was lost and computed again."""
        rare = {"computed again": self.lost, "unreadable": self.unreadable}
        said = "".join(f", {count} {what}" for what, count in rare.items() if count)
        counts = f"{self.embedded} views embedded, {self.reused} reused{said}"
        end = f" = {self.total}" if self.ended else "; it did not end"
        lines = [f"{self.name} from {self.driver}: {self.dataset}  {self.backbone}: {counts}{end}"]
        seconds = self.chunks.group_by(["host", "device"]).aggregate([("seconds", "mean")]).to_pylist()
        mean = {(row["host"], row["device"]): row["seconds_mean"] for row in seconds}
        for place in dict.fromkeys((encoder.host, encoder.device) for encoder in self.encoders):
            here = [encoder for encoder in self.encoders if (encoder.host, encoder.device) == place]
            each = f", {mean[place]:.2f} s each" if place in mean else ""
            chunks = sum(encoder.chunks for encoder in here)
            lines.append(f"  {len(here)} on {place[1]} of {place[0]}: {chunks} chunks{each}")
        for encoder in self.encoders:
            if encoder.silent or encoder.under_way:
                why = f"replaced, after {encoder.silent:.0f} s without a word" if encoder.silent else "lost"
                left = f"; it left the chunks {_listed(encoder.under_way)}" if encoder.under_way else ""
                lines.append(f"  {encoder.device} of {encoder.host}: {why}{left}")
        again = self.chunks.filter(self.chunks["again"])["chunk"].to_pylist()
        return [*lines, *([f"  computed again: the chunks {_listed(sorted(again))}"] if again else [])]

    def in_plain_data(self) -> dict[str, Any]:
        """Return all of it but the rows, for JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("chunks", "encoders")}
        return {**plain, "views": list(self.views), "encoders": [asdict(encoder) for encoder in self.encoders]}


def _listed(chunks: Sequence[int]) -> str:
    """Return numbers of chunks in words, the first dozen of them."""
    more = f" and {len(chunks) - 12} more" if len(chunks) > 12 else ""
    return ", ".join(map(str, chunks[:12])) + more


def new_name() -> str:
    """Return a name for a run that begins now."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def write_made(storage: Storage, made: Made, closed: bool = False) -> None:
    """Write a run's record; `closed` where nothing more will be written of it."""
    metadata = {_KEY: json.dumps(made.in_plain_data()).encode()}
    suffix = ".parquet" if closed else _OPEN
    content = sealed_parquet(made.chunks.replace_schema_metadata(metadata))
    storage.write_bytes(f"{ROOT}/{made.name}{suffix}", content)


def drop_open(storage: Storage, made: Made) -> None:
    """Remove what a run wrote before it ended."""
    storage.delete(f"{ROOT}/{made.name}{_OPEN}")


def read_made(storage: Storage) -> list[Made]:
    """Return the records of all runs, the oldest first. A damaged one is left out: nothing depends on it."""
    return _read(storage, storage.files(ROOT, ".parquet"))


def take_over(storage: Storage, views: Sequence[str]) -> dict[int, int]:
    """Return chunk -> how often runs that did not end had it under way, of those that wrote to one of some views.

    Their records are closed, so that no other run counts it again. What such a run did after its last record is not in
    it: a chunk may be there all the same.
    """
    begun: dict[int, int] = {}
    for made in _read(storage, storage.files(ROOT, _OPEN)):
        if set(made.views) & set(views):
            for chunk in {chunk for encoder in made.encoders for chunk in encoder.under_way}:
                begun[chunk] = begun.get(chunk, 0) + 1
            write_made(storage, made, closed=True)
            drop_open(storage, made)
    return begun


def check(storage: Storage, name: str) -> None:
    """Read a run's record, unless its run ended just now. Raises DamagedError where it is not what was written."""
    if storage.read_if_there(name) is not None and not _read(storage, [name]):  # a network that fails is no damage
        raise DamagedError.of(storage, {name: "is damaged"})


def of_no_use(storage: Storage, directories: Collection[str]) -> list[str]:
    """Return the names of the records of runs that wrote to none of some directories."""
    every = ((name, _read(storage, [name])) for name in storage.files(ROOT, ".parquet"))
    return [name for name, read in every if not read or not set(read[0].views) & set(directories)]


def _read(storage: Storage, names: Sequence[str]) -> list[Made]:
    records = []
    for name in sorted(names):
        with suppress(IcmBenchError, OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            with open_parquet(storage, name) as file:
                table = file.read()
            content = from_json(table.schema.metadata[_KEY], storage.path(name))
            encoders = tuple(MadeBy(**{**e, "under_way": tuple(e["under_way"])}) for e in content.pop("encoders"))
            views = tuple(content.pop("views"))
            records.append(Made(**content, views=views, encoders=encoders, chunks=table))
    return records
