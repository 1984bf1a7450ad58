"""`icm-bench details`: what the picks of the rules predict, image by image, as files that other tools open."""

import re
from dataclasses import dataclass
from functools import cache, partial

import pyarrow as pa

from benchmark.commands.gather import rows_of
from benchmark.commands.report import images_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe

FOLDER = "predictions"  # inside the report's


@dataclass(frozen=True)
class Written:
    """What `details` wrote."""

    files: list[str]  # paths or URIs, one for each method of each setting, in the order of the report
    predictions: int  # their lines

    def text(self) -> str:
        """Return it in a line for each file."""
        return "\n".join([f"{self.predictions:,} predictions in {len(self.files)} files:", *self.files])


def write_details(recipe: Recipe, storage: Storage) -> Written:
    """Write the predictions of all picks as Parquet files, columns of `reports.analysis.selections.COLUMNS`.

    They are read from the rows: nothing is fitted, and neither images nor a backbone are needed.

    Args:
        recipe: whose rows they are.
        storage: its store.

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
            if out.path(name) in files:  # two methods whose labels differ in other characters alone
                name = name.replace(".parquet", f"-{len(files)}.parquet")
            out.write_table(name, pa.Table.from_pandas(table, preserve_index=False))
            files.append(out.path(name))
            count += len(table)
    if not files:
        raise IcmBenchError(f"No rows of '{recipe.name}' have predictions; run the recipe again: rows take minutes.")
    return Written(files, count)
