"""Packed answers: which images each record answers correctly. `results check` writes them, `results board` reads them.

    packed/index.json              digest of the records, and SHA-256 of each file below
    packed/DATA_SET-DIGEST.parquet one file for each comparable group

A file has a row for each tested image (under each seed, for each held-out environment). After the columns of `Images`
there is one for each entry: whether its answer is correct, or null where it has none. The metadata name the group and
the entries. Equal input gives equal bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash, from_json
from benchmark.common.storage.files import Storage, in_parquet
from benchmark.method.arrays import Labels, Mask, Values

VERSION = 1  # raise it if the files change
_INDEX, _ABOUT = "packed/index.json", b"icm_bench_packed"
_NAME = re.compile(r"[\w.-]+\.parquet")
_ANSWERS = ("answered", "correct")  # arrays of an entry
IDENTITY = ("model_id", "encoder", "method", "predictor", "rule", "variant")  # fields of an entry


@dataclass(frozen=True, order=True)
class GroupKey:
    """What records must have in common to be compared image by image."""

    dataset: str  # name of the data set
    fingerprint: str  # its fingerprint
    protocol: str
    test_split: str
    class_half: str  # "all" or "harmonic"
    folds: int
    seeds: tuple[int, ...]
    held_outs: tuple[str, ...]  # held-out environments (or pairs), sorted


@dataclass(frozen=True, eq=False)
class Images:
    """The tested images of a group: all that any entry answers. Each array has shape (n,)."""

    sample: Values  # path of the image inside the data set, or its id
    held_out: Values  # name of the held-out environment or pair
    unit: Values  # group of the image, or the image itself if there are no groups
    label: Values  # name of the class
    seed: Labels
    half: Values  # "all"; for harmonic means "base" or "new"


@dataclass(frozen=True, eq=False)
class Entry:
    """One record of a group: a method under an encoder."""

    record: str  # path of the record inside the folder
    model_id: str
    encoder: str  # label of the encoder
    method: str  # label of the method
    predictor: str
    rule: str  # selection rule
    marked: bool  # whether the rule or method looks at the target
    is_plain: bool
    answered: Mask  # shape (n,)
    correct: Mask  # shape (n,); False where not answered
    variant: str = ""  # what else tells entries apart, such as other prompts
    made_up: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes entries of several data sets the same entry of the board."""
        return tuple(getattr(self, name) for name in IDENTITY)


Groups = Mapping[GroupKey, tuple[Images, Sequence[Entry]]]


def write_packed(folder: Path, groups: Groups) -> list[str]:
    """Write the packed answers of all records in a folder of results, and remove older ones; return the file names.

    Raises:
        IcmBenchError: two records of a group are the same entry, or a file cannot be written.
        ValueError: arrays of a group have different lengths.
    """
    storage, contents = Storage(str(folder)), {}
    for key, (images, entries) in sorted(groups.items()):
        contents[_file_name(key)] = in_parquet(_table(key, images, entries))
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    index = {"version": VERSION, "records": records_digest(folder), "files": files}
    storage.write_files("packed", contents)
    storage.write_bytes(_INDEX, json.dumps(index, indent=1, sort_keys=True).encode())
    for name in storage.files("packed", ".parquet"):
        if name.rpartition("/")[2] not in files:
            storage.delete(name)
    return sorted(files)


def read_packed(folder: Path) -> dict[GroupKey, tuple[Images, list[Entry]]]:
    """Return the packed answers in a folder of results, sorted by group.

    Raises:
        IcmBenchError: there are none, they are older than the records, damaged, or of another version.
    """
    storage, check = Storage(str(folder)), f"`icm-bench results check {folder}`"
    if not storage.is_folder():
        raise IcmBenchError(f"There is no folder {folder}; give the folder that `icm-bench publish --to` wrote.")
    if (content := storage.read_if_there(_INDEX)) is None:
        raise IcmBenchError(f"{folder} has no packed answers; run {check} first.")
    index = from_json(content, storage.path(_INDEX))
    index = index if isinstance(index, dict) else {}
    if index.get("version") != VERSION or not isinstance(index.get("files"), dict):
        raise IcmBenchError(f"{storage.path(_INDEX)} is of another version of icm-bench; run {check} again.")
    if index.get("records") != records_digest(folder):
        raise IcmBenchError(f"The packed answers in {folder} are older than its records; run {check} again.")
    found = {}
    for name, digest in sorted(index["files"].items()):
        packed = storage.read_if_there(f"packed/{name}") if _NAME.fullmatch(name) else None
        if packed is None or hashlib.sha256(packed).hexdigest() != digest:
            raise IcmBenchError(f"{storage.path('packed')}/{name} is missing or damaged; run {check} again.")
        key, group = _group(pa.BufferReader(packed))
        found[key] = group
    return dict(sorted(found.items()))


def records_digest(folder: Path) -> str:
    """Return a digest of all records in a folder of results. Each record has the digest of its answers in turn."""
    storage = Storage(str(folder))
    names = storage.files("data", ".json")
    return canonical_hash({name: hashlib.sha256(storage.read_bytes(name)).hexdigest() for name in names})


def _file_name(key: GroupKey) -> str:
    return f"{re.sub('[^A-Za-z0-9_.]+', '-', key.dataset).strip('-.')}-{canonical_hash(asdict(key))[:12]}.parquet"


def _table(key: GroupKey, images: Images, entries: Sequence[Entry]) -> pa.Table:
    """Return a group as the table of its file; its entries are sorted."""
    known: dict[tuple[str, ...], Entry] = {}
    for one in sorted(entries, key=lambda one: (one.identity, one.record)):
        if (other := known.setdefault(one.identity, one)) is not one:
            raise IcmBenchError(f"{other.record} and {one.record} are the same entry of {key.dataset}; remove one.")
    facts = [{k: v for k, v in vars(one).items() if k not in _ANSWERS} for one in known.values()]
    about = json.dumps({"key": asdict(key), "entries": facts}, sort_keys=True)
    answers = {str(i): pa.array(one.correct, mask=~one.answered) for i, one in enumerate(known.values())}
    return pa.table({**vars(images), **answers}).replace_schema_metadata({_ABOUT: about})


def _group(source: pa.BufferReader) -> tuple[GroupKey, tuple[Images, list[Entry]]]:
    """Return the group in a file; the inverse of `_table`."""
    import pyarrow.parquet as pq

    table = pq.read_table(source)
    about = json.loads(table.schema.metadata[_ABOUT])
    key: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about["key"].items()}
    count = len(about["entries"])
    images = {name: table[name].to_numpy() for name in table.column_names[:-count]}
    answers = table.columns[-count:]
    entries = [
        Entry(**one, answered=of_one.is_valid().to_numpy(), correct=of_one.fill_null(False).to_numpy())
        for one, of_one in zip(about["entries"], answers, strict=True)
    ]
    return GroupKey(**key), (Images(**images), entries)
