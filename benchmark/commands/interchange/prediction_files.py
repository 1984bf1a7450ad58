"""Predictions of methods that were trained elsewhere, a line for each image, and the images that the lines name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmark.commands.interchange.files import unmarked
from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.plain import opened
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.parquet_check import check_tried

NEEDED = ("image", "method", "predicted")
WORDS = ("dataset", "backbone", "protocol", "held_out", "test_split")
NUMBERS = ("seed", "fold")
TEST = (*WORDS, *NUMBERS)  # which test a line belongs to; what the recipe has one of may be left out
CHOICE = ("setting", "source_score")
LISTED = ("path", "class", "environment", "group", "role", "role_in_choice")  # of lists of splits: looked over


@dataclass(frozen=True)
class Predictions:
    """The lines of a file, in its order: columns `NEEDED` and `CHOICE`, and those of `TEST` that the file has.

    Words are text, seed and fold whole numbers; setting is empty text and source_score NaN where absent. The index is
    the row's number, from 1; the head of a CSV file does not count.
    """

    file: Path
    lines: pd.DataFrame

    def refused(self, row: int, problem: str) -> IcmBenchError:
        """Return the error that names the file and a row."""
        return IcmBenchError(f"{self.file}, row {row}: {problem}")


def read_predictions(file: Path) -> Predictions:
    """Return the predictions of a file.

    Args:
        file: Parquet or CSV (UTF-8, with a head), by its suffix. Columns: image (path below the data set's folder, or
            id), method, predicted (name of a class); dataset, backbone, protocol, held_out, test_split, seed, fold; and
            setting with source_score (accuracy on the sources, 0 to 1).

    Raises:
        IcmBenchError: the file cannot be read, lacks a column or has an unknown one, or a value is empty or of another
            kind; names file and row.
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
        raise IcmBenchError(f"{file} holds no prediction; write one line for each tested image.")
    frame.index = frame.index + 1
    predictions = Predictions(file, frame)
    for name in (*NEEDED, *(name for name in TEST if name in frame)):
        if len(empty := frame.index[frame[name].str.strip() == ""]):
            raise predictions.refused(empty[0], f"'{name}' is empty; fill it in.")
    for name in NUMBERS:
        if name in frame:
            frame[name] = _numbers(predictions, name, whole=True)
    frame["setting"] = frame.get("setting", "")
    frame["source_score"] = _numbers(predictions, "source_score") if "source_score" in frame else float("nan")
    if len(outside := frame.index[(frame["source_score"] < 0) | (frame["source_score"] > 1)]):
        raise predictions.refused(
            outside[0], f"source_score {frame['source_score'][outside[0]]:g} is no accuracy; give it between 0 and 1."
        )
    return predictions


def _read(file: Path) -> pd.DataFrame:
    """Return all columns as text, absent values empty."""
    if file.suffix not in (".csv", ".parquet"):
        raise IcmBenchError(f"{file}: the name ends in neither .parquet nor .csv; give a file of one of these.")
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
        raise IcmBenchError(
            f"{file} cannot be read ({reason(error)}); give a Parquet or CSV file that exists and may be read."
        ) from error


def _numbers(predictions: Predictions, name: str, whole: bool = False) -> Any:
    """Return a column of text as numbers; empty text is NaN where they need not be whole."""
    text = predictions.lines[name]
    values = pd.to_numeric(text.replace("", "nan"), errors="coerce")
    wrong = (values.isna() & (text.str.strip() != "")) | (whole & (values != values.round()))
    if len(rows := text.index[wrong]):
        kind = "a whole number" if whole else "a number"
        raise predictions.refused(rows[0], f"{name} '{text[rows[0]]:.60}' is not {kind}; write it in digits.")
    return values.astype("int64") if whole else values


@dataclass(frozen=True)
class TestImages:
    """The images that the lines of one test may name, in tables with the columns path and image_id."""

    tested: pa.Table
    every: pa.Table  # that the protocol sees
    unreadable: frozenset[str]  # paths and ids of those that cannot be read, which take no part


def answers_of(
    predictions: Predictions, lines: pd.DataFrame, classes: NDArray[np.int64], images: TestImages
) -> NDArray[np.int64]:
    """Return the predicted class of each image of a test, shape (m,), from the lines of one test, method and setting.

    A path names one image. An id names all images with these bytes, in one environment and class: it stands once, or as
    often as there are such images. `classes` has the index of the class that each line predicts.

    Raises:
        IcmBenchError: a line names an image that is not tested, or none at all, or an image stands twice or is missing;
            names file and row.
    """

    def names_in(table: pa.Table) -> set[str]:
        return {*table["path"].to_pylist(), *table["image_id"].to_pylist()}

    named = lines["image"].isin(names_in(images.tested)).to_numpy()  # the others name one that cannot be read
    names = ("method", "setting", "protocol", "held_out", "test_split", "seed", "fold")
    said = ((name, lines[name].iloc[0]) for name in names)
    test = ", ".join(f"{name} {value}" for name, value in said if value not in ("", -1))
    if len(other := lines.index[~named & ~lines["image"].isin(images.unreadable).to_numpy()]):
        image = lines["image"][other[0]]
        if image in names_in(images.every):
            problem = f"the image '{image}' is not tested in {test}; leave it out, see `icm-bench splits`."
        else:
            problem = f"'{image:.200}' is no image of this data set; give the path below its folder, or the id."
        raise predictions.refused(other[0], problem)
    paths, ids = (images.tested[name].to_pylist() for name in ("path", "image_id"))
    answers = _brought_to_images(predictions, lines[named], classes[named], paths, ids)
    if (missing := np.flatnonzero(answers < 0)).size:
        raise predictions.refused(
            lines.index[0],
            f"{len(missing)} of the {len(answers)} tested images of {test} have no prediction, "
            f"{paths[missing[0]]} the first; add them, `icm-bench splits` lists them as test.",
        )
    return answers


def _brought_to_images(
    predictions: Predictions, lines: pd.DataFrame, classes: NDArray[np.int64], paths: list[str], ids: list[str]
) -> NDArray[np.int64]:
    """Return the predicted class of each image, -1 where there is none; every line names one of them."""
    code, distinct = pd.factorize(np.array(ids, dtype=object))
    by_path, by_id = (pd.Index(names).get_indexer(pd.Index(lines["image"])) for names in (paths, distinct))
    named_by_id = by_path < 0
    of_line = np.where(named_by_id, by_id, code[by_path])
    before = pd.Series(of_line).groupby(of_line).cumcount().to_numpy()
    twice = (before >= np.bincount(code)[of_line]) | (~named_by_id & pd.Series(by_path).duplicated().to_numpy())
    if twice.any():
        row = lines.index[twice][0]
        raise predictions.refused(row, f"the image '{lines['image'][row]}' stands twice; keep one of the two.")
    of_code = np.full(len(distinct), -1)
    of_code[of_line[named_by_id]] = classes[named_by_id]
    if len(other := lines.index[named_by_id & (of_code[of_line] != classes)]):
        image = lines["image"][other[0]]
        raise predictions.refused(
            other[0], f"the image '{image}' stands with two predictions; keep one, or name the images by their paths."
        )
    answers = of_code[code]
    answers[by_path[~named_by_id]] = classes[~named_by_id]
    return np.asarray(answers)
