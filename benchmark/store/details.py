"""What the picks of the rules predict, image by image; a map of the images; and how well environments can be read.

Names of these files are made here, and they are written and read here. Whoever asks says by `Part` whose picks are
meant: the name of a file is the hash of the picks, with all their answers, so rows that change make another file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.plain import from_json
from benchmark.common.storage import Storage
from benchmark.store.checked import DamagedError, not_read, problem_by

ROOT = "details"
VERSION = 2  # to be raised when what is written for a part changes
_CLASSES, _PART = b"icm_bench_classes", b"icm_bench_part"
_WORD = pa.dictionary(pa.int32(), pa.string())

PREDICTIONS = pa.schema(
    [
        ("image_id", _WORD),
        ("environment", _WORD),
        ("class", _WORD),
        ("group", _WORD),  # null where the data set has no groups
        ("held_out", _WORD),
        ("seed", pa.int64()),
        ("fold", pa.int64()),  # -1 for an 80/20 split
        ("method", _WORD),  # as reports call it, its predictor with it
        ("predictor", _WORD),
        ("rule", _WORD),
        ("predicted", pa.int16()),  # number of a class
        ("margin", pa.float32()),  # best score minus the second; null where there is none, or it is infinite
    ]
)
MAP = pa.schema(
    [
        ("id", pa.string()),  # of the image
        ("path", pa.string()),  # inside the data set
        ("class", pa.string()),
        ("environment", pa.string()),
        ("x", pa.float32()),  # the first principal axes of the embeddings
        ("y", pa.float32()),
        ("x_after", pa.float32()),  # those of the projected embeddings
        ("y_after", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Pick:
    """One row and one rank of it that a rule picks.

    Attributes:
        rule: the rule.
        trial: id of the trial whose row it is.
        held_out, seed, fold, test_split, class_half: which test, as the row says.
        rank: number of directions kept.
        lambda_: as the row says; None where there is none.
        projection_params, predictor_params: what was chosen for either, as JSON in the row.
        tested: hash of the tested images.
        correct: whether each of them is classified correctly, as bits from the first byte's highest on.
        n: number of the tested images.
    """

    rule: str
    trial: str
    held_out: str
    seed: int
    fold: int
    test_split: str
    class_half: str
    rank: int
    lambda_: float | None
    projection_params: str
    predictor_params: str
    tested: str
    correct: bytes = field(repr=False)
    n: int

    @property
    def answers(self) -> NDArray[np.bool_]:
        """Whether each tested image is classified correctly, shape (n,)."""
        return np.unpackbits(np.frombuffer(self.correct, dtype=np.uint8), count=self.n).astype(bool)

    @property
    def point(self) -> tuple[object, ...]:
        """What is refitted for it: the same for several rules that pick the same."""
        return tuple(value for name, value in vars(self).items() if name not in ("rule", "correct", "n", "tested"))


@dataclass(frozen=True)
class Part:
    """The picks of one method in one setting: what one file is of.

    Attributes:
        setting: all that tells the setting from others, as text; of a report's, every field.
        method: as reports call it, its predictor with it.
        predictor: its predictor, as rows call it.
        projects: whether it projects at all: plain prediction has no map, and nothing to read environments after.
        picks: by rule, held-out environment, seed and fold.
    """

    setting: Mapping[str, str]
    method: str
    predictor: str
    projects: bool
    picks: tuple[Pick, ...]

    @property
    def key(self) -> str:
        """Hash (32 hex digits) of all of it."""
        picks = [{**vars(p), "correct": hashlib.sha256(p.correct).hexdigest()} for p in self.picks]
        content = [VERSION, dict(self.setting), self.method, self.predictor, self.projects, picks]
        return canonical_hash(content)[:32]

    @property
    def file(self) -> str:
        """Name, inside a store, of the file of its predictions. It is written last: where it is, all is."""
        return f"{ROOT}/{self.key}.parquet"

    @property
    def map_file(self) -> str:
        """Name of the file of its map."""
        return f"{ROOT}/{self.key}/map.parquet"

    @property
    def decoded_file(self) -> str:
        """Name of the file that says how well environments can be read."""
        return f"{ROOT}/{self.key}/decodability.json"


@dataclass(frozen=True)
class Decoded:
    """How well a linear classifier reads the environment from embeddings, before and after the projection of a pick.

    Attributes:
        rule, held_out, seed, fold: whose pick.
        rank: number of directions kept.
        before: balanced accuracy, 0 to 1, cross-validated, from the embeddings as the projection sees them.
        after: the same from what the projection leaves of the same images.
        chance: what guessing attains.
        n: number of images.
    """

    rule: str
    held_out: str
    seed: int
    fold: int
    rank: int
    before: float
    after: float
    chance: float
    n: int


@dataclass(frozen=True)
class Details:
    """What was found for a part.

    Attributes:
        predictions: columns of `PREDICTIONS`, pick by pick, a line for each tested image in the order of the row.
        classes: names of the classes, which `predicted` counts from 0.
        map: columns of `MAP`; None where there is none.
        decoded: of each held-out environment with the first seed and fold, under the rule by which reports compare;
            empty where there is nothing.
    """

    predictions: pa.Table
    classes: tuple[str, ...]
    map: pa.Table | None
    decoded: tuple[Decoded, ...]


def has_details(projection: str, order: str | None, variant: str) -> bool:
    """Return whether predictions are written of a method: of plain, PCA, CLIP-ICM (largest) and shrinkage, no control.

    Args:
        projection: its name.
        order: of its eigenvectors; None where it has none.
        variant: what else tells it apart; empty for none.
    """
    return projection in ("identity", "pca", "icm", "shrinkage") and not variant and order in (None, "largest")


def written(storage: Storage) -> set[str]:
    """Return the names of all files of details in a store."""
    return {*storage.files(ROOT, "")}


def write_details(storage: Storage, part: Part, details: Details) -> None:
    """Write what was found for a part; its predictions come last, so that an interrupted writer leaves no part."""
    if details.map is not None:
        storage.write_table(part.map_file, details.map.replace_schema_metadata({_PART: part.key.encode()}))
    if details.decoded:
        said = {"part": part.key, "decoded": [asdict(one) for one in details.decoded]}
        lines = json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False)
        storage.write_bytes(part.decoded_file, lines.encode())
    classes = json.dumps(list(details.classes), ensure_ascii=False).encode()
    said_of = {_CLASSES: classes, _PART: part.key.encode()}
    storage.write_table(part.file, details.predictions.replace_schema_metadata(said_of))


def read_details(storage: Storage, part: Part, columns: Sequence[str] | None = None) -> Details | None:
    """Return what was written for a part; None where it is absent: `icm-bench details RECIPE` writes it.

    Args:
        storage: the store.
        part: whose.
        columns: those of the predictions that are needed; by default all.

    Raises:
        DamagedError: a file is damaged, or another part's; names it.
    """
    table = _table(storage, part.file, None if columns is None else list(columns))
    if table is None:
        return None
    classes = tuple(from_json((table.schema.metadata or {})[_CLASSES], storage.path(part.file)))
    return Details(table, classes, _table(storage, part.map_file), _decoded(storage, part.decoded_file))


def problem_of(storage: Storage, name: str) -> str:
    """Return what is wrong with a file of details; nothing where it is sound."""
    return problem_by(_decoded if name.endswith(".json") else _table, storage, name)


def _table(storage: Storage, name: str, columns: list[str] | None = None) -> pa.Table | None:
    """Return the table of a part, or of its map; None where there is no such file."""
    if storage.is_local:  # where only the columns that are asked for are read
        source = storage.open(name) if storage.exists(name) else None
    else:
        content = storage.read_if_there(name)
        source = None if content is None else pa.BufferReader(content)
    if source is None:
        return None
    try:
        with source:
            table = pq.read_table(source, columns=columns, page_checksum_verification=True)
    except pa.ArrowMemoryError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise not_read(storage, name, error) from error
    _check_part(storage, name, (table.schema.metadata or {}).get(_PART, b"").decode())
    return table


def _decoded(storage: Storage, name: str) -> tuple[Decoded, ...]:
    content = storage.read_if_there(name)
    if content is None:
        return ()
    try:
        said = from_json(content, storage.path(name))
        part, decoded = str(said["part"]), tuple(Decoded(**line) for line in said["decoded"])
    except (IcmBenchError, KeyError, ValueError, TypeError) as error:
        raise DamagedError.of(storage, {name: "is damaged"}) from error
    _check_part(storage, name, part)
    return decoded


def _check_part(storage: Storage, name: str, part: str) -> None:
    """Refuse a file that was copied or renamed."""
    if part != name.split("/")[1].removesuffix(".parquet"):
        raise DamagedError.of(storage, {name: f"is of the part '{part[:32]}': it was copied or renamed"})
