"""Records of embedding runs: one file per run that embedded something, with one row per chunk.

Until a long run ends, it rewrites its record regularly under the suffix `.open.parquet`. If the driver is killed, this
open record lists the chunks that were in flight, and the next run reads it.
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
    """An encoder of a run. A new field needs a default, since files of earlier versions lack it.

    Attributes:
        host: name of the encoder's node.
        device: model of the encoder's GPU, `gpu` if unknown, or `cpu`.
        chunks: number of chunks that the encoder wrote.
        silent: seconds without a message before the encoder was replaced; 0 if it was not replaced.
        under_way: numbers of the chunks that the encoder had begun but not written.
    """

    host: str
    device: str
    chunks: int
    silent: float = 0.0
    under_way: tuple[int, ...] = ()


@dataclass(frozen=True)
class Made:
    """Record of an embedding run. Pairs are (image, view) pairs. A new field needs a default, as older files lack it.

    Attributes:
        name: unique name of the run: its start (UTC) and a random number.
        driver: host name of the driver.
        views: directories of the views that the run wrote to.
        embedded: number of pairs that were computed once.
        reused: number of pairs that were already in the store.
        lost: number of pairs that were computed twice because the encoder that began them was lost.
        unreadable: number of pairs of unreadable images.
        total: number of pairs of all distinct images. Once the run has ended, it is the sum of the four counts above.
        encoders: encoders in the order of their start.
        chunks: one row per chunk, with the columns `CHUNKS`: `seconds` of encoding, `tries` (how often it was begun),
            `again` (whether it was computed twice).
        ended: whether the run ended normally.
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
        """Return the record as lines of text: counts, encoders, lost encoders, recomputed chunks."""
        rare = {"computed again": self.lost, "unreadable": self.unreadable}
        others = "".join(f", {count} {name}" for name, count in rare.items() if count)
        counts = f"{self.embedded} views embedded, {self.reused} reused{others}"
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
                why = f"replaced after {encoder.silent:.0f} s without a message" if encoder.silent else "lost"
                left = f"; unfinished chunks: {_listed(encoder.under_way)}" if encoder.under_way else ""
                lines.append(f"  {encoder.device} of {encoder.host}: {why}{left}")
        again = self.chunks.filter(self.chunks["again"])["chunk"].to_pylist()
        return [*lines, *([f"  chunks computed again: {_listed(sorted(again))}"] if again else [])]

    def in_plain_data(self) -> dict[str, Any]:
        """Return the record without the rows of chunks, as plain data for JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("chunks", "encoders")}
        return {**plain, "views": list(self.views), "encoders": [asdict(encoder) for encoder in self.encoders]}


def _listed(chunks: Sequence[int]) -> str:
    """Return up to twelve chunk numbers as text."""
    more = f" and {len(chunks) - 12} more" if len(chunks) > 12 else ""
    return ", ".join(map(str, chunks[:12])) + more


def new_name() -> str:
    """Return a unique name for a run that starts now."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def write_made(storage: Storage, made: Made, closed: bool = False) -> None:
    """Write the record of a run: as an open record, or with `closed` (default False) as the final record."""
    metadata = {_KEY: json.dumps(made.in_plain_data()).encode()}
    suffix = ".parquet" if closed else _OPEN
    content = sealed_parquet(made.chunks.replace_schema_metadata(metadata))
    storage.write_bytes(f"{ROOT}/{made.name}{suffix}", content)


def drop_open(storage: Storage, made: Made) -> None:
    """Remove the open record of a run."""
    storage.delete(f"{ROOT}/{made.name}{_OPEN}")


def read_made(storage: Storage) -> list[Made]:
    """Return the records of all runs, oldest first. Damaged records are skipped, since no result depends on them."""
    return _read(storage, storage.files(ROOT, ".parquet"))


def take_over(storage: Storage, views: Sequence[str]) -> dict[int, int]:
    """Return chunk -> number of unfinished runs of any of the views in which this chunk was in flight.

    The records of these runs are closed, so that later runs do not count them again. A chunk in flight may be in the
    store nevertheless, if an encoder wrote it after the last record.
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
    """Raise DamagedError if the record of a run is damaged; an open record may be gone, as its run removes it."""
    if storage.read_if_there(name) is not None and not _read(storage, [name]):  # raises for a network failure
        raise DamagedError.of(storage, {name: "is damaged"})


def obsolete(storage: Storage, directories: Collection[str]) -> list[str]:
    """Return the names of damaged records, and of records whose runs wrote to none of the directories."""
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
