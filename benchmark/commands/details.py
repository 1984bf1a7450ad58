"""`icm-bench details`: writes the predictions at selected points for each image, as Parquet files for other tools."""

import re
from dataclasses import dataclass
from functools import cache, partial

import pyarrow as pa

from benchmark.commands.gather import rows_of
from benchmark.commands.report import images_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe

FOLDER = "predictions"  # inside the folder of the report


@dataclass(frozen=True)
class Written:
    """Summary of the written files."""

    files: list[str]  # paths or URIs in the report's order, one for each method and setting
    predictions: int  # number of lines in all files

    def text(self) -> str:
        """Return the summary as text, one line for each file."""
        return "\n".join([f"{self.predictions:,} predictions in {len(self.files)} files:", *self.files])


def write_details(recipe: Recipe, storage: Storage) -> Written:
    """Write the predictions at all selected points as Parquet files.

    The columns are `reports.analysis.selections.COLUMNS`. Predictions are read from the rows, so nothing is fitted, and
    neither images nor a backbone are needed.

    Args:
        recipe: the recipe of the rows.
        storage: the recipe's store.

    Raises:
        IcmBenchError: the recipe was never swept with this store, or its rows have no predictions.
    """
    from reports.analysis.selections import Predicted, Selections, predictions_of
    from reports.analysis.settings import by_setting, suffixes

    gathered, _, out, folder = rows_of(recipe, storage)
    predicted, named = Predicted(gathered.rows), cache(partial(images_of, [storage]))
    parts = by_setting(gathered.rows)
    files: list[str] = []
    count = 0
    for (_, rows), suffix in zip(parts, suffixes([setting for setting, _ in parts]), strict=True):
        for method, table in predictions_of(Selections(rows, gathered.tested, predicted), named).items():
            words = re.sub(r"[^A-Za-z0-9.]+", "-", method.label).strip("-").lower()
            name = f"{folder}/{FOLDER}/{words}{suffix}.parquet".lstrip("/")
            if out.path(name) in files:  # two labels may differ only in replaced characters
                name = name.replace(".parquet", f"-{len(files)}.parquet")
            out.write_table(name, pa.Table.from_pandas(table, preserve_index=False))
            files.append(out.path(name))
            count += len(table)
    if not files:
        raise IcmBenchError(f"No rows of '{recipe.name}' have predictions; run the recipe again: rows take minutes.")
    return Written(files, count)
