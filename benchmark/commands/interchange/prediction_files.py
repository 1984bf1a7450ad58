"""Predictions of methods that were trained elsewhere, read from a Parquet or CSV file: a line for each image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.commands.interchange.spreadsheets import unmarked
from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.plain import opened
from benchmark.common.storage.files import Storage, reason
from benchmark.common.storage.parquet_check import check_tried

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("image", "method", "predicted")
WORDS = ("dataset", "backbone", "protocol", "held_out", "test_split")
NUMBERS = ("seed", "fold")
TEST = (*WORDS, *NUMBERS)  # which test a line belongs to; what the recipe has one of may be left out
CHOICE = ("setting", "source_score")
LISTED = ("path", "class", "environment", "group", "role", "role_in_choice")  # of lists of splits: looked over


@dataclass(frozen=True)
class Predictions:
    """The lines of a file, in its order.

    Attributes:
        file: where they stand.
        lines: columns `NEEDED` and `CHOICE`, and those of `TEST` that the file has. Words are text, seed and fold whole
            numbers; setting is empty text and source_score NaN where absent. The index is the row's number, from 1; the
            head of a CSV file does not count.
    """

    file: Path
    lines: "pd.DataFrame"

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


def _read(file: Path) -> "pd.DataFrame":
    """Return all columns as text, absent values empty."""
    import pandas as pd

    if file.suffix not in (".csv", ".parquet"):
        raise IcmBenchError(f"{file}: the name ends in neither .parquet nor .csv; give a file of one of these.")
    try:
        with opened(file, "The file of predictions", "give a Parquet or CSV file that may be read") as stream:
            if file.suffix == ".csv":
                frame = pd.read_csv(stream, dtype=str, keep_default_na=False, encoding="utf-8-sig")
                return frame.apply(lambda column: column.map({text: unmarked(text) for text in column.unique()}))
            check_tried(Storage(str(file.parent)), file.name)
            table = pq.read_table(stream)
            return pd.DataFrame({name: _text(file, table, name) for name in table.column_names}, dtype=object)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise IcmBenchError(
            f"{file} cannot be read ({reason(error)}); give a Parquet or CSV file that exists and may be read."
        ) from error


def _text(file: Path, table: pa.Table, name: str) -> list[str]:
    try:
        column = table[name].cast(pa.string()) if name not in LISTED else pa.nulls(len(table), pa.string())
    except pa.ArrowException as error:
        raise IcmBenchError(f"{file}: the column '{name}' is of type {table[name].type}; write it as text.") from error
    return [value or "" for value in column.to_pylist()]


def _numbers(predictions: Predictions, name: str, whole: bool = False) -> Any:
    """Return a column of text as numbers; empty text is NaN where they need not be whole."""
    import pandas as pd

    text = predictions.lines[name]
    values = pd.to_numeric(text.replace("", "nan"), errors="coerce")
    wrong = (values.isna() & (text.str.strip() != "")) | (whole & (values != values.round()))
    if len(rows := text.index[wrong]):
        kind = "a whole number" if whole else "a number"
        raise predictions.refused(rows[0], f"{name} '{text[rows[0]]:.60}' is not {kind}; write it in digits.")
    return values.astype("int64") if whole else values
