"""The manifest: every image of a data set with its identity, class, environment and group.

The order of the images does not depend on the reader; it is DomainBed's: environments, classes and paths sorted as
strings.
"""

import hashlib
import itertools
import time
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import BUILT, CATALOG, class_subset, count_differences, human_names, wordnet_ids
from benchmark.datasets.columns import TABLE
from benchmark.datasets.identities import identify
from benchmark.datasets.known_folder import check_environments, child, known_folder
from benchmark.datasets.readers import IMAGE_SUFFIXES, Entry, ImageReader, open_reader
from benchmark.datasets.readers.base import ImportedReader
from benchmark.datasets.spec import DatasetSpec

_AT_ONCE = 65_536  # rows converted to Python at a time

# A new column must be filled for images (a field of `Entry` in readers/base.py) and by `imported_manifest`.
SCHEMA = pa.schema(
    [
        ("content", pa.string()),  # SHA-256 of the bytes alone
        ("image_id", pa.string()),  # SHA-256 of bytes, environment and class
        ("path", pa.string()),  # name inside the data set, with /
        ("environment", pa.string()),
        ("class_name", pa.string()),
        ("label", pa.int64()),
        ("group", pa.string()),  # null without groups
        ("bytes", pa.int64()),
        ("file", pa.string()),  # file of the image, relative to the reader's URI
        ("position", pa.int64()),  # byte offset in a tar shard, row in a Parquet file, -1 for a whole file
    ]
)


@dataclass(frozen=True)
class Manifest:
    """The images of one data set in DomainBed's order: one row of `table` per image, with the columns of `SCHEMA`."""

    name: str
    reader: ImageReader
    table: pa.Table

    @property
    def is_imported(self) -> bool:
        """Whether the store has imported embeddings of the images, and no image files are known."""
        return isinstance(self.reader, ImportedReader)

    @cached_property
    def environments(self) -> list[str]:
        """Environment names, sorted; the position is DomainBed's environment index."""
        return sorted(self.table["environment"].unique().to_pylist())

    @cached_property
    def classes(self) -> list[str]:
        """Class names, sorted; the position is the label. For an ImageNet variant, all classes of the variant."""
        return list(class_subset(self.name) or sorted(self.table["class_name"].unique().to_pylist()))

    @cached_property
    def prompt_names(self) -> list[str]:
        """Names of `classes` for prompts: English words for WordNet ids, else the class names."""
        return human_names(self.classes) if class_subset(self.name) else self.classes

    def place(self, path: str) -> str:
        """Return the location of the image with the manifest's `path`, for messages."""
        row = pc.index(self.table["path"], path).as_py()
        return self.reader.place(path, self.table["file"][row].as_py() if row >= 0 else None)

    @cached_property
    def environment_index(self) -> NDArray[np.int64]:
        """Index of the environment of each image in `environments`, shape (n,)."""
        index = pc.index_in(self.table["environment"], value_set=pa.array(self.environments, pa.string()))
        return np.asarray(index.to_numpy(), dtype=np.int64)

    @cached_property
    def groups(self) -> list[str] | None:
        """Group of each image; None without groups."""
        groups = self.table["group"]
        return groups.to_pylist() if groups[0].is_valid else None

    @cached_property
    def counts(self) -> dict[str, int]:
        """Environment -> number of images."""
        counts = np.bincount(self.environment_index, minlength=len(self.environments)).tolist()
        return dict(zip(self.environments, counts, strict=True))

    @cached_property
    def shared_images(self) -> int:
        """Number of distinct images whose bytes occur in two or more environments, in any class.

        If such an image is held out, it was also seen in training. Image ids cannot show this, since they depend on
        environment and class.
        """
        rows = self.table.select(["content", "environment"])
        places = rows.group_by("content").aggregate([("environment", "count_distinct")])
        return int(pc.sum(pc.greater(places["environment_count_distinct"], 1)).as_py() or 0)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over identity, path and group of all images in order; independent of the layout.

        The reader's additional formats are included, since they change which images can be decoded.
        """
        digest = hashlib.sha256("".join(f"{name}\n" for name in self.reader.formats).encode())
        for batch in self.table.select(["image_id", "path", "group"]).to_batches(_AT_ONCE):
            for image_id, path, group in zip(*(column.to_pylist() for column in batch), strict=True):
                digest.update(f"{image_id}\t{path}\t{group or ''}\n".encode())
        return digest.hexdigest()

    def part(self, images: int) -> "Manifest":
        """Return the manifest of at most `images` images: the first ones of each class in each environment."""
        names = ["environment", "class_name"]
        places = self.table.select(names).to_pandas().groupby(names).cumcount().to_numpy()
        return replace(self, table=self.table.take(np.sort(np.argsort(places, kind="stable")[:images])))

    def notes(self) -> list[str]:
        """Return notes on this copy, one sentence each: differences from the catalog, missing classes, duplicates."""
        notes = self.reader.notes()
        facts = CATALOG.get(self.name)
        where = self.reader.storage.path("").rstrip("/")
        if facts and self._read_otherwise:
            notes.append(
                f"{self.name} in {where} is read with columns, splits or lookups of the recipe: the catalog's counts "
                f"do not apply."
            )
        elif facts and (differences := count_differences(facts, self.counts, len(self.classes))):
            notes.append(f"{self.name} in {where} differs from the catalog ({facts.counts}): {'; '.join(differences)}.")
        elif facts and facts.fingerprint not in (None, self.fingerprint):
            notes.append(f"{self.name} in {where} has the catalog's counts, but other images than the reference copy.")
        if absent := sorted(set(self.classes) - set(self.table["class_name"].unique().to_pylist())):
            notes.append(
                f"{self.name} in {where} lacks images of {len(absent)} of its {len(self.classes)} classes, "
                f"{absent[0]} the first; predictors still choose among all classes."
            )
        return notes + self._confusing_names() + self._duplicates()

    @property
    def _read_otherwise(self) -> bool:
        """Whether the recipe reads a table with other columns, splits or lookups than the catalog."""
        listing, known = getattr(self.reader, "listing", None), DatasetSpec(name=self.name).resolved
        if known.layout != TABLE or listing is None:
            return False
        return bool((self.reader.columns, listing) != (known.columns, known.listing))

    def _confusing_names(self) -> list[str]:
        """Return notes on different names that look alike, and on class names without letters, useless in prompts."""
        pairs = [("environments", *pair, "look alike") for pair in alike(self.environments)]
        pairs += [("classes", *pair, "look alike, or are the same in prompts") for pair in alike(self.classes, spoken)]
        notes = [
            f"{self.name}: the {kind} '{by_number(a)}' and '{by_number(b)}' {how}, but are different."
            for kind, a, b, how in pairs
        ]
        if names := [n for n in self.prompt_names if self.reader.labelled and not any(map(str.isalpha, n))]:
            notes.append(
                f"{self.name}: {len(names)} classes have names without a letter ({', '.join(names[:3])}"
                f"{' ...' if names[3:] else ''}), which mean nothing in prompts; if they stand for words, give these "
                f"(classnames.txt, lookup, or the names of folders)."
            )
        return notes

    def _duplicates(self) -> list[str]:
        """Return notes on images with equal bytes, first within a class, then in different environments or classes."""
        notes, paths = [], self.table["path"]
        ids, contents = (
            self.table[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in ("image_id", "content")
        )
        first, repeated = _repetitions(ids)
        if len(repeated):
            notes.append(
                f"{self.name}: {len(repeated)} images repeat the bytes of another one of the same environment and "
                f"class; the first is {paths[repeated[0]]}, which equals {paths[first[0]]}."
            )
        distinct = np.setdiff1d(np.arange(len(ids)), repeated)
        distinct = distinct[self.table["bytes"].to_numpy()[distinct] > 0]  # empty files do not count as duplicates
        first, repeated = (distinct[positions] for positions in _repetitions(contents[distinct]))
        if len(repeated):
            notes.append(
                f"{self.name}: {len(repeated)} images have the same bytes as one of another environment or class, so "
                f"held-out images were seen in training, or have two labels; the first is "
                f"{paths[repeated[0]]}, which equals {paths[first[0]]}."
            )
        return notes


def _repetitions(codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two arrays, one entry per repetition of a code: its first position, and the repetition's position."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    earliest = first[inverse]
    repeated = np.flatnonzero(earliest != np.arange(len(codes)))
    return earliest[repeated], repeated


def read_manifest(spec: DatasetSpec) -> Manifest:
    """Return the manifest of a data set.

    The first call reads every image once, for its identity; later calls read only changed files.
    """
    reader = dataset_reader(spec)
    listed_ns = time.time_ns()
    table = _with_names(spec.name, reader, _listed(reader.entries()))
    there = set(table["environment"].unique().to_pylist())
    if not reader.labelled and (absent := sorted(reader.unlabelled - there)):
        raise IcmBenchError(
            f"labels: {reader.storage.path('').rstrip('/')} has no images of an environment '{absent[0]}', which the "
            f"data set '{spec.name}' names; name one that is there."
        )
    _check_listing(reader, table)
    check_environments(spec, reader, there)
    return _labelled(spec.name, reader, identify(reader, _in_order(_distinct_paths(reader, table)), listed_ns))


def imported_manifest(name: str, uri: str, table: pa.Table) -> Manifest:
    """Return the manifest of images whose embeddings were imported; `uri` is the folder of the import in the store.

    `table` has one row per image, and the string columns of `SCHEMA` except `file`.
    """
    reader, nowhere = ImportedReader(uri), pa.array([-1] * len(table), pa.int64())
    table = _in_order(_with_names(name, reader, table))
    for column in ("bytes", "position"):
        table = table.append_column(column, nowhere)
    return _labelled(name, reader, table.append_column("file", table["path"]))


def _labelled(name: str, reader: ImageReader, table: pa.Table) -> Manifest:
    """Return the manifest of images in their final order, after adding the column `label`."""
    classes = class_subset(name) or sorted(table["class_name"].unique().to_pylist())
    label = pc.index_in(table["class_name"], value_set=pa.array(classes)).cast(pa.int64())
    return Manifest(name, reader, table.append_column("label", label).select(SCHEMA.names).cast(SCHEMA))


def dataset_reader(spec: DatasetSpec) -> ImageReader:
    """Return the reader of a data set. Sets of drawings are built if not in the cache."""
    if spec.is_imported:
        raise IcmBenchError(
            f"datasets: the images of '{spec.name}' are not at hand, since its embeddings were imported; give it "
            f"another layout, and a root, to open them."
        )
    if spec.root is None:
        if spec.is_planted:
            from benchmark.demo import planted

            return open_reader(str(planted.build(spec.planted)), "folder")
        if spec.name in BUILT:
            from benchmark.demo import emoji_styles, icons

            folder = icons.build() if spec.name == icons.NAME else emoji_styles.build(spec.name)
            return open_reader(str(folder / spec.name), "folder")
        known = spec.name in CATALOG
        hint = f"get it first ({CATALOG[spec.name].obtain})" if known else nearest(spec.name, list(CATALOG))
        raise IcmBenchError(f"datasets: '{spec.name}' needs a 'root', the folder in which its images lie; {hint}")
    root = spec.root if "://" in spec.root else str(Path(spec.root).expanduser().absolute())
    if not Storage(root).is_folder():
        raise IcmBenchError(f"datasets: the root {public(root)} of '{spec.name}' does not exist or is no folder.")
    facts = CATALOG.get(spec.name)
    uri = known_folder(spec, root) if facts else child(root, spec.name) or root
    environment = facts.folder if facts and facts.single else None
    spec = spec.resolved
    labelled, unlabelled = spec.classes is None, frozenset(spec.labels or ())
    return open_reader(uri, spec.layout, spec.columns, environment, spec.listing, labelled, unlabelled)


_WHOLE_NUMBERS = ("position", "bytes", "modified_ns", "file_bytes")  # fields of `Entry` that are int
_ENTRY = pa.schema([(f.name, pa.int64() if f.name in _WHOLE_NUMBERS else pa.string()) for f in fields(Entry)])


def _listed(entries: Iterable[Entry]) -> pa.Table:
    """Return entries as a table; they are converted in batches, since there may be a million."""
    entries, batches = iter(entries), []
    while rows := list(itertools.islice(entries, 8192)):
        columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in _ENTRY]
        batches.append(pa.record_batch(columns, schema=_ENTRY))
    return pa.Table.from_batches(batches, schema=_ENTRY)


def _with_names(name: str, reader: ImageReader, table: pa.Table) -> pa.Table:
    """Return the table with WordNet ids as class names if the data set is an ImageNet variant, else unchanged."""
    if class_subset(name) is None:
        return table
    place = reader.storage.path("").rstrip("/")
    classes = table["class_name"].unique()
    ids = pa.array(wordnet_ids(name, classes.to_pylist(), place), pa.string())
    column = ids.take(pc.index_in(table["class_name"], value_set=classes).combine_chunks())
    return table.set_column(table.column_names.index("class_name"), "class_name", column)


def _check_listing(reader: ImageReader, table: pa.Table) -> None:
    where = reader.storage.path("").rstrip("/")
    if not table.num_rows:
        infos = reader.listed()
        inner = (one for folder in infos if folder.is_folder for one in reader.listed(folder.name))
        files = (info.name for info in itertools.chain(infos, inner) if not info.is_folder)
        if image := next((name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES), None):
            raise IcmBenchError(
                f"{where} holds no images in folders of classes: {reader.storage.path(image)} seems to lie one level "
                f"too high: {reader.arrangement}; give as root the folder above, or put what is there into a "
                f"folder for each environment."
            )
        raise IcmBenchError(
            f"{where} holds no images; {reader.arrangement}, with images of {', '.join(sorted(IMAGE_SUFFIXES))}, or "
            f"Parquet files or tar shards below ROOT."
        )
    grouped = table["group"].null_count < table.num_rows
    for batch in table.select(["path", "group"]).to_batches(_AT_ONCE):
        for path, group in zip(*(column.to_pylist() for column in batch), strict=True):
            if not path.isprintable():
                raise IcmBenchError(f"The file name {path!a} in {where} is not printable; rename it.")
            if grouped and not group:
                raise IcmBenchError(f"{path} in {where} has no group, while others have one; give one to each image.")
    classes = table["class_name"].unique().to_pylist()
    if len(classes) < 2 and reader.labelled:
        raise IcmBenchError(f"{where} has one class only ({classes[0]}), add another; {reader.arrangement}.")


def _distinct_paths(reader: ImageReader, table: pa.Table) -> pa.Table:
    """Return the table with unique paths: names from file and position replace a path that occurs twice."""
    codes = table["path"].combine_chunks().dictionary_encode().indices.to_numpy()
    shared = np.flatnonzero(np.bincount(codes)[codes] > 1)
    if not len(shared):
        return table
    paths = table["path"].to_pylist()
    for row, entry in zip(shared, table.take(shared).to_pylist(), strict=True):
        place = (entry[name] for name in ("environment", "class_name", "file", "position"))
        paths[row] = reader.named(None, *place)
    return table.set_column(table.column_names.index("path"), "path", pa.array(paths, pa.string()))


def _in_order(table: pa.Table) -> pa.Table:
    """Return the table in the order of torchvision's ImageFolder, on which DomainBed's splits depend."""
    keys = table.select(["environment", "class_name"])
    # The same as posixpath.split, but without tuples, which would need most of the memory for millions of paths.
    for name, other in (("folder", r"(?s)/*[^/]*$"), ("name", r"(?s)^.*/")):
        keys = keys.append_column(name, pc.replace_substring_regex(table["path"], other, ""))
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    return table if pc.all(pc.equal(order, pa.array(np.arange(len(order))))).as_py() else table.take(order)


# Cyrillic and Greek letters -> similar Latin ones.
_LETTERS = str.maketrans(
    "аеорсухіјѕԁһкмтвнАВЕКМНОРСТХІЈЅοανιρυκΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijsdhkmtbhABEKMHOPCTXIJSoavipukABEZHIKMNOPTYX"
)


def look(name: str) -> str:
    """Return the visual form of a name: without invisible characters, similar letters replaced by Latin ones."""
    signs = (sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign)[0] != "C")
    return " ".join("".join(signs).translate(_LETTERS).split())


def spoken(name: str) -> str:
    """Return the visual form of a class name in a prompt: in lower case, since many text towers ignore case."""
    return look(name.replace("_", " ")).casefold()


def alike(names: Iterable[str], seen: Callable[[str], str] = look) -> list[tuple[str, str]]:
    """Return one pair of names for each visual form that several names share; `seen` maps a name to its form."""
    first: dict[str, str] = {}
    pairs: dict[str, tuple[str, str]] = {}
    for name in sorted(set(names)):
        if (known := first.setdefault(seen(name), name)) != name:
            pairs.setdefault(known, (known, name))
    return list(pairs.values())


def by_number(name: str) -> str:
    """Return a name with all characters beyond printable ASCII replaced by code points, as `cU+0430t`."""
    return "".join(sign if " " <= sign <= "~" else f"U+{ord(sign):04X}" for sign in name)
