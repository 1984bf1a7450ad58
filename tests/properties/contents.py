"""What files of a draw hold, said so shortly that a failing draw can be read, and put into a test as it is printed."""

import datetime
import functools
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A PNG of one colour, by its number."""

    colour: int

    @functools.cache  # noqa: B019  there are few
    def bytes(self) -> bytes:
        """Return the file."""
        with io.BytesIO() as buffer:
            Image.new("RGB", (8, 8), (self.colour % 256, self.colour // 256 % 256, 60)).save(buffer, "PNG")
            return buffer.getvalue()


@dataclass(frozen=True)
class Tar:
    """An archive: (name, content, type of the member), and how much of it was lost at the end."""

    members: list[tuple[str, "bytes | Picture", bytes]]
    lost: int = 0

    def bytes(self) -> bytes:
        """Return the file."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content, kind in self.members:
                raw = content if isinstance(content, bytes) else content.bytes()
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size = kind, "x", len(raw) if kind == tarfile.REGTYPE else 0
                archive.addfile(member, io.BytesIO(raw))
        return buffer.getvalue()[: -self.lost or None]


def _two(first: Any, second: Any) -> Callable[[int], list[Any]]:
    return lambda rows: [(first, second)[i % 2] for i in range(rows)]


def _pictures(rows: int) -> list[bytes]:
    return [Picture(i).bytes() for i in range(rows)]


# What a column of a Parquet file holds: its Arrow type, and values of so many rows.
COLUMNS: dict[str, tuple[pa.DataType, Callable[[int], list[Any]]]] = {
    "words": (pa.string(), _two("cat", "dog")),
    "large": (pa.large_string(), _two("cat", "dog")),
    "coded": (pa.dictionary(pa.int32(), pa.string()), _two("cat", "dog")),
    "holes": (pa.string(), _two("cat", None)),
    "empty": (pa.string(), _two("cat", "")),
    "odd": (pa.string(), _two("\x1b[2J", "a\nb")),
    "long": (pa.string(), _two("x" * 100_000, "dog")),
    "alike": (pa.string(), _two("a_b", "a b")),
    "numbers": (pa.int64(), _two(0, 1)),
    "negative": (pa.int64(), _two(-1, 2**62)),
    "floats": (pa.float64(), _two(0.0, 1.0)),
    "nan": (pa.float64(), _two(0.0, float("nan"))),
    "flags": (pa.bool_(), _two(False, True)),
    "bytes": (pa.binary(), _two(b"cat", b"\xff")),
    "nothing": (pa.null(), _two(None, None)),
    "lists": (pa.list_(pa.string()), _two(["cat"], [])),
    "dates": (pa.date32(), _two(datetime.date(2024, 1, 1), datetime.date(2024, 1, 2))),
    "times": (pa.timestamp("ns", "UTC"), _two(0, 1)),
    "decimals": (pa.decimal128(5, 2), _two(Decimal(1), Decimal(2))),
    "unique": (pa.string(), lambda rows: [f"{i}.png" for i in range(rows)]),
    "image": (pa.binary(), _pictures),
    "image and path": (
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        lambda rows: [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(_pictures(rows))],
    ),
    "image and one path": (
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        lambda rows: [{"bytes": content, "path": "0.png"} for content in _pictures(rows)],
    ),
    "image or not": (
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        lambda rows: [{"bytes": (c, None)[i % 2], "path": f"{i}.png"} for i, c in enumerate(_pictures(rows))],
    ),
}


@dataclass(frozen=True)
class Parquet:
    """A Parquet file: (name, what it holds, see `COLUMNS`) of its columns, number of rows, rows of a group, metadata."""

    columns: list[tuple[str, str]]
    rows: int = 12
    group: int = 5
    said: dict[str, str] = field(default_factory=dict)

    def bytes(self) -> bytes:
        """Return the file."""
        arrays = [pa.array(COLUMNS[what][1](self.rows), COLUMNS[what][0]) for _, what in self.columns]
        table = pa.Table.from_arrays(arrays, [name for name, _ in self.columns]).replace_schema_metadata(self.said)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=self.group)
        return buffer.getvalue()


WIDTH, VIEWS = 4, ("original", "grayscale")
OF_IMPORT = 3 * 2 * 5  # environments, classes, images of each

# What makes embeddings odd: shape (rows, WIDTH) -> whatever stands in their place.
EMBEDDINGS: dict[str, Callable[[Any], Any]] = {
    "sound": lambda z: z,
    "double": lambda z: z.astype(">f8"),
    "half": lambda z: z.astype(np.float16),
    "whole": lambda z: (z * 100).astype(np.int64),
    "columns first": np.asfortranarray,
    "nan": lambda z: np.where(np.arange(len(z))[:, None] == 7, np.nan, z),
    "infinite": lambda z: np.where(np.arange(len(z))[:, None] == 7, np.inf, z),
    "too large": lambda z: z.astype(np.float64) * 1e300,
    "large": lambda z: z.astype(np.float64) * 1e30,
    "tiny": lambda z: z.astype(np.float64) * 1e-42,
    "zeros": lambda z: z * 0,
    "one zero": lambda z: np.where(np.arange(len(z))[:, None] == 7, 0, z),
    "constant": lambda z: z * 0 + 1,
    "one number": lambda z: z[:, :1],
    "flat": lambda z: z[:, 0],
    "deep": lambda z: z[:, :, None],
    "no width": lambda z: z[:, :0],
    "complex": lambda z: z.astype(np.complex64),
    "texts": lambda z: z.astype(str),
    "objects": lambda z: z.astype(object),
    "flags": lambda z: z > 0,
    "fewer": lambda z: z[:-1],
    "scalar": lambda z: z[0, 0],
}
# What makes a column of texts odd.
WORDS: dict[str, Callable[[Any], Any]] = {
    "sound": lambda a: a,
    "bytes": lambda a: np.char.encode(a),
    "objects": lambda a: a.astype(object),
    "numbers": lambda a: np.arange(len(a)),
    "floats": lambda a: np.arange(len(a)) / 3,
    "one": lambda a: np.full_like(a, a[0]),
    "empty": lambda a: np.where(np.arange(len(a)) == 3, "", a),
    "other": lambda a: np.where(np.arange(len(a)) == 3, "other", a),
    "spaces": lambda a: np.where(np.arange(len(a)) == 3, " cat ", a),
    "steering": lambda a: np.where(np.arange(len(a)) == 3, "\x1b[2J\n", a),
    "nul": lambda a: np.where(np.arange(len(a)) == 3, "a\0b", a),
    "long": lambda a: np.where(np.arange(len(a)) == 3, "x" * 5_000, a),
    "square": lambda a: np.stack([a, a], axis=1),
    "fewer": lambda a: a[:-1],
    "backwards": lambda a: a[::-1],
}


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of 30 images in two views, or texts of their classes: what is odd of each column, what is left out.

    Attributes:
        odd: (name of a column, what makes it odd: see `EMBEDDINGS` and `WORDS`).
        without: columns that are left out.
        form: `npz`, `parquet` or `compressed`.
        texts: whether it has texts of classes.
    """

    odd: list[tuple[str, str]] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    form: str = "npz"
    texts: bool = False

    def columns(self) -> dict[str, Any]:
        """Return name -> values."""
        rng = np.random.default_rng(self.texts)
        if self.texts:
            columns = {"class": np.array(["cat", "dog"]), "embedding": rng.standard_normal((2, WIDTH), np.float32)}
        else:
            images = [(e, c, f"{e}/{c}/{i}") for e in "abc" for c in ("cat", "dog") for i in range(5)]
            rows = [(*image, view) for image in images for view in VIEWS]
            names = ("environment", "class", "image_id", "view")
            columns = {name: np.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
            columns["embedding"] = rng.standard_normal((len(rows), WIDTH), np.float32)
        for name, how in self.odd:
            if name in columns:
                columns[name] = (EMBEDDINGS if name == "embedding" else WORDS)[how](columns[name])
        return {name: values for name, values in columns.items() if name not in self.without}

    def bytes(self) -> bytes:
        """Return the file."""
        columns, buffer = self.columns(), io.BytesIO()
        if self.form == "parquet":
            try:
                table = pa.table({name: pa.array(np.asarray(c).tolist()) for name, c in columns.items()})
                pq.write_table(table, buffer)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                return b"PAR1"  # columns that no Parquet file has together
        else:
            (np.savez_compressed if self.form == "compressed" else np.savez)(buffer, **columns)
        return buffer.getvalue()


Content = bytes | Picture | Tar | Parquet | Embeddings


@dataclass(frozen=True)
class Draw:
    """One input: files that lie in a folder, and the words of a command that is called there.

    Attributes:
        words: of the command line.
        files: name -> content; names may be any that the system takes.
        recipe: content of `r.yaml`, as plain data; None where there is none.
        images: how many there are; None where that is not known.
    """

    words: list[str]
    files: dict[str, Content] = field(default_factory=dict)
    recipe: Any = None
    images: int | None = None


# A CLIP so small that its facts are found in a moment.
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
CONFIG = json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}).encode()
BACKBONE = {"name": "tiny", "folder": "../tiny", "pretrained": "random", "engine": "torch"}


def recipe_of(dataset: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a small recipe on a data set."""
    return {
        "name": "small",
        "datasets": [{"name": "set", "root": "set", **dataset}],
        "backbones": [BACKBONE],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {"seeds": [0], "projections": ["identity", "icm"], "lambdas": [1], "predictors": ["zero_shot"]},
        **more,
    }
