"""What methods take the tested images for, image by image: read from the rows that rules pick."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.method.evaluation.selection import SOURCE_RULES
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method

ImagesOf = Callable[[str], pa.Table | None]  # hash of a list of images -> columns of `benchmark.store.images.COLUMNS`
Columns = Mapping[str, NDArray[np.object_]]
COLUMNS = (
    "image_id", "path", "environment", "class", "group", "held_out", "half", "seed", "fold", "method", "predictor",
    "rule", "predicted", "margin",
)  # fmt: skip


@dataclass(frozen=True)
class MethodPredictions:
    """What a method takes the tested images of a setting for, under the rules that look at sources alone.

    Attributes:
        method: the method.
        table: columns of `COLUMNS`, a line for each tested image of each pick; `class` and `predicted` are names,
            `margin` is the best score minus the second, NaN where there is none.
    """

    method: Method
    table: pd.DataFrame


def predictions_of(selections: Selections, images_of: ImagesOf) -> list[MethodPredictions]:
    """Return the predictions of each method of a setting that has some, in the order of tables.

    Args:
        selections: the rows of the setting.
        images_of: returns the list of images that a row names, or None.
    """
    columns_of = cache(lambda hash_: _columns(images_of(hash_)))
    found = [(method, list(_of_picks(selections, method, columns_of))) for method in selections.parts]
    return [MethodPredictions(method, _together(parts)) for method, parts in found if parts]


def _columns(images: pa.Table | None) -> Columns | None:
    """Return what tells images, column by column; None where there is no list of them."""
    if images is None:
        return None
    return {name: images[name].to_numpy(zero_copy_only=False) for name in ("image_id", "path", "group")}


def _of_picks(
    selections: Selections, method: Method, columns_of: Callable[[str], Columns | None]
) -> Iterator[Mapping[str, Any]]:
    """Yield of each pick its columns of `COLUMNS`: an array with a value for each image, or a value for all."""
    classes = np.array(selections.rows["classes"].iloc[0], dtype=object)
    for rule in SOURCE_RULES:
        picks = selections.picks(method, rule)
        places = zip(picks["held_out"], picks["seed"], picks["fold"], selections.kept(method, rule), strict=True)
        for held_out, seed, fold, of_pick in places:
            for kept in of_pick:
                tested, known = selections.tested[kept.tested], columns_of(kept.images) if kept.images else None
                named = known and {name: values[tested.position] for name, values in known.items()}
                yield {
                    **(named or {"image_id": tested.position.astype(str).astype(object), "path": "", "group": None}),
                    "environment": np.array(tested.names, dtype=object)[tested.environment],
                    "class": classes[tested.label],
                    "held_out": str(held_out),
                    "half": kept.half,
                    "seed": int(seed),
                    "fold": int(fold),
                    "method": method.label,
                    "predictor": method.predictor,
                    "rule": rule,
                    "predicted": classes[kept.classes],
                    "margin": kept.margins,
                }


def _together(parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the columns of picks one after the other."""
    sizes = [len(part["class"]) for part in parts]
    columns = {}
    for name in COLUMNS:
        values = [
            part[name] if isinstance(part[name], np.ndarray) else np.repeat(np.array([part[name]]), size)
            for part, size in zip(parts, sizes, strict=True)
        ]
        columns[name] = np.concatenate(values)
    return pd.DataFrame(columns)


def read_of(selections: Selections) -> dict[Method, list[tuple[float, float, float, int]]]:
    """Return how well the environment is read before and after each method that projects.

    Returns:
        Method -> of each pick that was looked at, by the rule by which reports compare: balanced accuracy before and
        after, chance, and the rank.
    """
    found = {}
    for method in selections.parts:
        picks = selections.picks(method, selections.rule)["rank"].tolist()
        rows = selections.chosen_rows(
            method, selections.rule, ("read_ranks", "read_before", "read_after", "read_chance")
        )
        of_picks = [
            (one["read_before"], one["read_after"][list(one["read_ranks"]).index(rank)], one["read_chance"], rank)
            for rank, one in zip(picks, rows.to_dict("records"), strict=True)
            if isinstance(one["read_ranks"], list) and rank in one["read_ranks"]
        ]
        if of_picks:
            found[method] = of_picks
    return found
