"""The manifest: every image of a data set with its identity, class, environment and group.

Reads folders in DomainBed's layout, ROOT/ENVIRONMENT/CLASS/IMAGE, in DomainBed's order: environments, classes and
paths sorted as strings. A file `groups.csv` beside the environments (columns `path`, `group`) says which images
belong together.
"""

import csv
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.datasets.catalog import CATALOG, DEMO_SET, count_differences
from benchmark.errors import IcmBenchError, nearest
from benchmark.progress import Progress
from benchmark.recipe import DatasetSpec
from benchmark.storage import reason

# torchvision's ImageFolder extensions, the ones DomainBed's loader accepts
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
GROUPS_FILE = "groups.csv"

SCHEMA = pa.schema(
    [
        ("content", pa.string()),  # SHA-256 of the bytes alone
        ("image_id", pa.string()),  # SHA-256 of bytes, environment and class
        ("path", pa.string()),  # relative to the data set's folder, with /
        ("environment", pa.string()),
        ("class_name", pa.string()),
        ("label", pa.int64()),
        ("group", pa.string()),  # null where the set has no groups
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """The images of one data set, in DomainBed's order.

    Attributes:
        name: of the data set.
        folder: where the paths start.
        table: one row per image, columns as in `SCHEMA`.
    """

    name: str
    folder: Path
    table: pa.Table

    @property
    def source(self):
        return _Shim(self.folder)

    def place(self, path):
        return str(self.folder / path)

    @cached_property
    def environments(self) -> list[str]:
        """Environment names, sorted: position is DomainBed's environment index."""
        return sorted(set(self.table["environment"].to_pylist()))

    @cached_property
    def classes(self) -> list[str]:
        """Class names, sorted: position is the label."""
        return sorted(set(self.table["class_name"].to_pylist()))

    @cached_property
    def environment_index(self) -> NDArray[np.int64]:
        """Environment index of each image, shape (n,)."""
        index = {name: i for i, name in enumerate(self.environments)}
        return np.array([index[name] for name in self.table["environment"].to_pylist()], dtype=np.int64)

    @cached_property
    def groups(self) -> list[str] | None:
        """Group of each image, or None where the set has no groups."""
        groups = self.table["group"].to_pylist()
        return None if groups[0] is None else groups

    @cached_property
    def counts(self) -> dict[str, int]:
        """Environment -> number of images."""
        return {name: int((self.environment_index == i).sum()) for i, name in enumerate(self.environments)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over identity, relative path and group of every image, in order."""
        digest = hashlib.sha256()
        columns = (self.table[name].to_pylist() for name in ("image_id", "path", "group"))
        for image_id, path, group in zip(*columns, strict=True):
            digest.update(f"{image_id}\t{path}\t{group or ''}\n".encode())
        return digest.hexdigest()

    def notes(self) -> list[str]:
        """Return what a user should know of this copy: differences to the catalog, duplicates."""
        notes = []
        facts = CATALOG.get(self.name)
        if facts and (differences := count_differences(facts, self.counts, len(self.classes))):
            notes.append(
                f"{self.name} in {self.folder} differs from the catalog ({facts.counts}): {'; '.join(differences)}."
            )
        ids = self.table["image_id"].to_pylist()
        if repeated := len(ids) - len(set(ids)):
            notes.append(
                f"{self.name}: {repeated} images repeat the bytes of another one of the same environment and class."
            )
        places = set(zip(self.table["content"].to_pylist(), ids, strict=True))
        if shared := len(places) - len({content for content, _ in places}):
            notes.append(
                f"{self.name}: {shared} images stand with the same bytes in another environment or class too: "
                f"what is held out there was seen, or is labelled twice."
            )
        return notes


def dataset_folder(spec: DatasetSpec) -> Path:
    """Return the folder that holds the environments of a data set; the demo set is built if need be.

    Raises:
        IcmBenchError: no root is given for a set that needs one, or it does not exist.
    """
    if spec.root is None:
        if spec.name == DEMO_SET:
            from benchmark.datasets import emoji_styles

            return emoji_styles.build() / CATALOG[DEMO_SET].folder
        known = spec.name in CATALOG
        hint = f"get it first ({CATALOG[spec.name].obtain})" if known else nearest(spec.name, list(CATALOG))
        raise IcmBenchError(f"datasets: '{spec.name}' needs a 'root', the folder in which its images lie; {hint}")
    root = Path(spec.root).expanduser().absolute()
    if not root.is_dir():
        raise IcmBenchError(f"datasets: the root {root} of '{spec.name}' does not exist or is no folder.")
    below = root / (CATALOG[spec.name].folder if spec.name in CATALOG else spec.name)
    return below if below.is_dir() else root


def read_manifest(spec: DatasetSpec) -> Manifest:
    """Return the manifest of the data set that `spec` names. Every file is read once to identify it.

    Raises:
        IcmBenchError: missing root, fewer than two environments, an environment that lacks a class, no images, a
            file that cannot be read, or a damaged `groups.csv`.
    """
    folder = dataset_folder(spec)
    try:
        rows = list(_listing(folder))
        _check_layout(folder, rows)
        groups = _read_groups(folder, {path for path, _, _ in rows})
    except OSError as error:
        raise IcmBenchError(f"{error.filename or folder} cannot be read ({reason(error)}).") from error
    classes = {name: i for i, name in enumerate(sorted({c for _, _, c in rows}))}
    progress = Progress("reading the manifest", len(rows), "images")
    found = []
    with ThreadPoolExecutor(max_workers=8) as pool:
        identities = pool.map(lambda row: _identify(folder, *row), rows)
        for (path, environment, class_name), (content, image_id, size) in zip(rows, identities, strict=True):
            group = groups[path] if groups else None
            found.append((content, image_id, path, environment, class_name, classes[class_name], group, size))
            progress.update()
    progress.close()
    columns = [
        pa.array(column, type=field.type) for column, field in zip(zip(*found, strict=True), SCHEMA, strict=True)
    ]
    return Manifest(spec.name, folder, pa.table(columns, schema=SCHEMA))


def _listing(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (path, environment, class) in the order of torchvision's ImageFolder, which DomainBed splits."""
    for environment in _subfolders(folder):
        for class_folder in _subfolders(environment):
            for place, _, names in sorted(os.walk(class_folder, onerror=_refuse, followlinks=True)):
                for name in sorted(names):
                    if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                        path = Path(place, name).relative_to(folder).as_posix()
                        if not path.isprintable():
                            raise IcmBenchError(f"The file name {path!a} in {folder} is not printable; rename it.")
                        yield path, environment.name, class_folder.name


def _refuse(error: OSError) -> None:
    raise error  # os.walk would leave out a folder that it may not read


def _subfolders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name)


def _check_layout(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    layout = "the layout is ROOT/ENVIRONMENT/CLASS/IMAGE"
    if not rows:
        raise IcmBenchError(f"{folder} holds no images; {layout}, with images of {', '.join(sorted(IMAGE_SUFFIXES))}.")
    # Folders count even when they are empty: DomainBed numbers environments by folder.
    present: dict[str, set[str]] = {e.name: set() for e in _subfolders(folder)}
    for _, environment, class_name in rows:
        present.setdefault(environment, set()).add(class_name)
    if len(present) < 2:
        raise IcmBenchError(
            f"{folder} has one environment only ({next(iter(present))}), and holding one out needs two; {layout}."
        )
    classes = {c.name for e in _subfolders(folder) for c in _subfolders(e)}
    if len(classes) < 2:
        raise IcmBenchError(f"{folder} has one class only ({next(iter(classes))}); {layout}.")
    for environment, names in sorted(present.items()):
        if missing := sorted(classes - names):
            raise IcmBenchError(
                f"The environment {folder / environment} lacks images of the class '{missing[0]}'"
                f"{f' and {len(missing) - 1} more' if missing[1:] else ''}; every environment needs every class: "
                f"add images, or leave the class out of all environments."
            )


def _identify(folder: Path, path: str, environment: str, class_name: str) -> tuple[str, str, int]:
    """Return (SHA-256 of the bytes, image_id, size in bytes) of one file."""
    try:
        content = (folder / path).read_bytes()
    except OSError as error:
        raise IcmBenchError(f"{folder / path} cannot be read ({reason(error)}).") from error
    digest = hashlib.sha256(content)
    bytes_alone = digest.hexdigest()
    digest.update(f"\0{environment}\0{class_name}".encode())
    return bytes_alone, digest.hexdigest(), len(content)


def _read_groups(folder: Path, paths: set[str]) -> dict[str, str] | None:
    """Return path -> group from `groups.csv`, or None where there is no such file."""
    file = folder / GROUPS_FILE
    if not file.is_file():
        return None
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"path", "group"} <= set(reader.fieldnames or ()):
                raise IcmBenchError(f"{file} needs the columns 'path' and 'group' in its first line.")
            groups = {row["path"]: row["group"] for row in reader}
    except (UnicodeDecodeError, csv.Error) as error:
        raise IcmBenchError(f"{file} is not CSV in UTF-8 ({error}); save it as that.") from error
    if missing := sorted(path for path in paths if not groups.get(path)):
        raise IcmBenchError(f"{file} names no group for {missing[0]} ({len(missing)} images in all).")
    return groups


class _Shim:
    def __init__(self, folder):
        self.folder = folder

    def read(self, batch):
        for p in batch["path"]:
            yield (self.folder / p).read_bytes()
