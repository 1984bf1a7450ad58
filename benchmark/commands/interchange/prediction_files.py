"""Reads files of predictions by methods trained elsewhere, one line per image, and matches lines to test images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmark.commands.interchange.files import row_error, unmarked
from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.plain import opened
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.parquet_check import check_tried

# Columns of a file; docs/comparisons.md explains them. `TEST` and `LISTED` are columns of `splits.SCHEMA`.
NEEDED = ("image", "method", "predicted")
WORDS = ("dataset", "backbone", "protocol", "held_out", "test_split")
NUMBERS = ("seed", "fold")
TEST = (*WORDS, *NUMBERS)  # identify a test; optional if the recipe has one value only
CHOICE = ("setting", "source_score")
LISTED = ("path", "class", "environment", "group", "role", "role_in_choice")  # accepted and ignored


@dataclass(frozen=True)
class Predictions:
    """The lines of a file of predictions, in file order.

    Columns are `NEEDED`, `CHOICE`, and each column of `TEST` in the file. Seed and fold are integers, source_score is a
    float (NaN if absent), all others are text (setting is empty if absent). The index is the row number, from 1.
    """

    file: Path
    lines: pd.DataFrame


def read_predictions(file: Path) -> Predictions:
    """Return the predictions in a file.

    Args:
        file: Parquet or CSV (UTF-8, with a header), by its suffix. Columns: image (path relative to the data set's
            folder, or id), method, predicted (class name); dataset, backbone, protocol, held_out, test_split, seed,
            fold; setting and source_score (accuracy on the sources, 0 to 1).

    Raises:
        IcmBenchError: the file cannot be read, a column is missing or unknown, or a value is empty or not valid; the
            message names file and row.
    """
    frame = _read(file)
    known = [*NEEDED, *TEST, *CHOICE, *LISTED]
    for name in frame.columns:
        if name not in known:
            raise IcmBenchError(f"{file}: unknown column '{name:.60}'; {nearest(name, known)}")
    for name in NEEDED:
        if name not in frame.columns:
            raise IcmBenchError(f"{file}: the column '{name}' is missing; add it.")
    if frame.empty:
        raise IcmBenchError(f"{file} has no predictions; write one line per tested image.")
    frame.index = frame.index + 1
    for name in (*NEEDED, *(name for name in TEST if name in frame)):
        if len(empty := frame.index[frame[name].str.strip() == ""]):
            raise row_error(file, empty[0], f"'{name}' is empty; fill it in.")
    for name in NUMBERS:
        if name in frame:
            frame[name] = _numbers(file, frame[name], whole=True)
    frame["setting"] = frame.get("setting", "")
    frame["source_score"] = _numbers(file, frame["source_score"]) if "source_score" in frame else float("nan")
    if len(outside := frame.index[(frame["source_score"] < 0) | (frame["source_score"] > 1)]):
        score = frame["source_score"][outside[0]]
        raise row_error(file, outside[0], f"source_score {score:g} is not an accuracy; give a number from 0 to 1.")
    return Predictions(file, frame)


def _read(file: Path) -> pd.DataFrame:
    """Return all columns of a file as text; missing values become empty text."""
    if file.suffix not in (".csv", ".parquet"):
        raise IcmBenchError(f"{file}: the suffix is not .parquet or .csv; give a file in one of these formats.")
    try:
        with opened(file, "The file of predictions", "give a Parquet or CSV file that may be read") as stream:
            if file.suffix == ".csv":
                frame = pd.read_csv(stream, dtype=str, keep_default_na=False, encoding="utf-8-sig")
                return frame.apply(lambda column: column.map({text: unmarked(text) for text in column.unique()}))
            check_tried(Storage(str(file.parent)), file.name)
            table, columns = pq.read_table(stream), dict[str, list[str]]()
            for name in table.column_names:
                try:
                    text = table[name].cast(pa.string()) if name not in LISTED else pa.nulls(len(table), pa.string())
                except pa.ArrowException as error:
                    kind = table[name].type
                    raise IcmBenchError(f"{file}: the column '{name}' is of type {kind}; write it as text.") from error
                columns[name] = [value or "" for value in text.to_pylist()]
            return pd.DataFrame(columns, dtype=object)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise IcmBenchError(f"{file} cannot be read ({reason(error)}); give a Parquet or CSV file.") from error


def _numbers(file: Path, text: pd.Series, whole: bool = False) -> Any:
    """Return a text column as integers (`whole`) or floats; empty text becomes NaN."""
    values = pd.to_numeric(text.replace("", "nan"), errors="coerce")
    wrong = (values.isna() & (text.str.strip() != "")) | (whole & (values != values.round()))
    if len(rows := text.index[wrong]):
        kind = "a whole number" if whole else "a number"
        raise row_error(file, rows[0], f"{text.name} '{text[rows[0]]:.60}' is not {kind}; write it in digits.")
    return values.astype("int64") if whole else values


def match_to_images(
    file: Path, lines: pd.DataFrame, classes: NDArray[np.int64], tested: pa.Table, every: pa.Table, unreadable: set[str]
) -> NDArray[np.int64]:
    """Return the predicted class of each tested image, shape (m,), from the lines of one test, method and setting.

    A path names one image. An id names all images with the same bytes, environment and class. The file may give an id
    on one line, or on one line for each of these images.

    Args:
        file: file of the lines, for error messages.
        lines: one line per image.
        classes: index of the class that each line predicts.
        tested: table of the tested images, with columns path and image_id.
        every: table of all images of the protocol.
        unreadable: paths and ids of images that cannot be decoded; their lines are ignored.

    Raises:
        IcmBenchError: an image is unknown, not tested, given twice or missing; the message names file and row.
    """

    def names_in(table: pa.Table) -> set[str]:
        return {*table["path"].to_pylist(), *table["image_id"].to_pylist()}

    named = lines["image"].isin(names_in(tested)).to_numpy()
    names = ("method", "setting", "protocol", "held_out", "test_split", "seed", "fold")
    values = ((name, lines[name].iloc[0]) for name in names)
    test = ", ".join(f"{name} {value}" for name, value in values if value not in ("", -1))
    if len(other := lines.index[~named & ~lines["image"].isin(unreadable).to_numpy()]):
        image = lines["image"][other[0]]
        problem = f"'{image:.200}' is not an image of this data set; give the path below its folder, or the id."
        if image in names_in(every):
            problem = f"the image '{image}' is not tested in {test}; remove it, see `icm-bench splits`."
        raise row_error(file, other[0], problem)
    first, lines, classes = lines.index[0], lines[named], classes[named]
    paths, ids = (tested[name].to_pylist() for name in ("path", "image_id"))
    code, distinct = pd.factorize(np.array(ids, dtype=object))
    by_path, by_id = (pd.Index(names).get_indexer(pd.Index(lines["image"])) for names in (paths, distinct))
    named_by_id = by_path < 0
    of_line = np.where(named_by_id, by_id, code[by_path])
    before = pd.Series(of_line).groupby(of_line).cumcount().to_numpy()
    twice = (before >= np.bincount(code)[of_line]) | (~named_by_id & pd.Series(by_path).duplicated().to_numpy())
    if twice.any():
        row = lines.index[twice][0]
        raise row_error(file, row, f"the image '{lines['image'][row]}' is given twice; keep one of the two.")
    of_code = np.full(len(distinct), -1)
    of_code[of_line[named_by_id]] = classes[named_by_id]
    if len(other := lines.index[named_by_id & (of_code[of_line] != classes)]):
        image = lines["image"][other[0]]
        raise row_error(file, other[0], f"the image '{image}' has two predictions; keep one, or give paths.")
    answers = of_code[code]
    answers[by_path[~named_by_id]] = classes[~named_by_id]
    if (missing := np.flatnonzero(answers < 0)).size:
        raise row_error(
            file,
            first,
            f"{len(missing)} of the {len(answers)} tested images of {test} have no prediction, the first is "
            f"{paths[missing[0]]}; add them, `icm-bench splits` lists them.",
        )
    return np.asarray(answers)
