"""Which images the rows of a file of embeddings are of, whether these make sense, and where each embedding lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.commands.interchange.embedding_files import Block, refused
from benchmark.common.errors import IcmBenchError
from benchmark.store.embeddings import ORIGINAL

NAMED = ("image_id", "path")  # what tells images apart: one of the two, the first where both are there
NEEDED = ("environment", "class")
SHARED = ("environment", "class", "group", "path")  # what all views of an image say alike
_MAX_LETTERS = 1024  # of a name


class Words:
    """The words of all rows, each different one held once.

    Args:
        file: where they stand, for messages.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.named = file, ""
        self._codes: dict[str, list[NDArray[np.int64]]] = {}
        self._values: dict[str, dict[str | None, int]] = {}

    def add(self, block: Block) -> None:
        """Take in some rows.

        Raises:
            IcmBenchError: a row lacks environment, class or what names its image, or a name cannot be printed.
        """
        self.named = next(name for name in NAMED if name in block.words)
        for name in (self.named, *NEEDED, *(["view"] if "view" in block.words else [])):
            if None in block.words[name]:
                row = block.first + block.words[name].index(None)
                raise refused(self.file, row, f"'{name}' is empty; fill it in, or leave the image out.")
        by_default: dict[str, list[str | None]] = {"view": [ORIGINAL] * len(block.embedding)}
        for name, values in {**by_default, **block.words}.items():
            known = self._values.setdefault(name, {})
            codes = np.fromiter((known.setdefault(value, len(known)) for value in values), np.int64, len(values))
            self._codes.setdefault(name, []).append(codes)
            if name != "content" and (bad := next((v for v in values if v is not None and not _is_name(v)), None)):
                row = block.first + values.index(bad)
                raise refused(self.file, row, f"'{name}' is {bad[:40]!a}, which is no name that can be printed.")

    def table(self) -> "Rows":
        """Return the words of all rows."""
        codes = {name: np.concatenate(parts) for name, parts in self._codes.items()}
        return Rows(self.file, self.named, codes, {name: list(values) for name, values in self._values.items()})


def _is_name(value: str) -> bool:
    return value.isprintable() and len(value) <= _MAX_LETTERS


@dataclass(frozen=True)
class Rows:
    """The words of all rows of a file.

    Attributes:
        file: where they stand.
        named: column that tells images apart.
        codes: column -> for each row the position of its word among the values, shape (rows,).
        values: column -> its different words, None where a row has none.
    """

    file: Path
    named: str
    codes: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, Sequence[str | None]]

    @property
    def views(self) -> list[str]:
        """Names of the views, the original first."""
        names = [str(name) for name in self.values["view"]]
        return sorted(names, key=lambda name: (name != ORIGINAL, name))

    def of_view(self, view: str) -> NDArray[np.int64]:
        """Return the rows of a view, in their order."""
        return np.flatnonzero(self.codes["view"] == self.values["view"].index(view))

    def words(self, column: str, rows: NDArray[np.int64]) -> list[str | None]:
        """Return what some rows say in a column; None where the file has no such column."""
        if column not in self.codes:
            return [None] * len(rows)
        values = self.values[column]
        return [values[code] for code in self.codes[column][rows].tolist()]

    def check(self) -> None:
        """Refuse rows that repeat an image's view, and views whose images are not those of the original.

        Raises:
            IcmBenchError: one of these, or views of an image that say different things of it; names the row.
        """
        image, view = self.codes[self.named], self.codes["view"]
        if ORIGINAL not in self.values["view"]:
            names = ", ".join(f"'{name}'" for name in self.views[:3])
            raise IcmBenchError(f"{self.file}: no row has the view '{ORIGINAL}', only {names}; call the images so.")
        key = image * len(self.values["view"]) + view
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        if len(again := np.flatnonzero(first[inverse] != np.arange(len(key)))):
            row = int(again[0])
            raise self._refused(row, f"stands in row {first[inverse[row]] + 1} already; leave one of the two out.")
        original = np.full(len(self.values[self.named]), -1, dtype=np.int64)
        rows = self.of_view(ORIGINAL)
        original[image[rows]] = rows
        if len(strange := np.flatnonzero(original[image] < 0)):
            raise self._refused(int(strange[0]), f"has no '{ORIGINAL}' beside it; give it one, or leave it out.")
        self._check_complete(rows)
        for column in (name for name in SHARED if name in self.codes):
            codes = self.codes[column]
            if len(other := np.flatnonzero(codes != codes[original[image]])):
                row = int(other[0])
                raise self._refused(row, f"has another {column} than row {original[image[row]] + 1}; let them agree.")

    def _check_complete(self, originals: NDArray[np.int64]) -> None:
        """Refuse views that lack images of the original."""
        image = self.codes[self.named]
        for view in self.views:
            there = np.zeros(len(self.values[self.named]), dtype=bool)
            there[image[self.of_view(view)]] = True
            if len(lacking := originals[~there[image[originals]]]):
                says = f"has no view '{view}' beside it, and other images have; give it one, or leave that view out."
                raise self._refused(int(lacking[0]), says)

    def _refused(self, row: int, problem: str) -> IcmBenchError:
        """Return the error that names a row, its image and view."""
        (name,), (view,) = (self.words(column, np.array([row])) for column in (self.named, "view"))
        return refused(self.file, row + 1, f"'{name}' in the view '{view}' {problem}")
