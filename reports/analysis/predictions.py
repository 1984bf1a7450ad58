"""What methods take the tested images for, image by image: read from the rows that rules pick."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Method -> columns of `COLUMNS`, a line for each tested image of each pick.
Predictions = Mapping[Method, pd.DataFrame]


def predictions_of(selections: Selections, images_of: ImagesOf) -> Predictions:
    """Return what each method of a setting takes the tested images for, under the rules that look at sources alone.

    `class` and `predicted` are names, `margin` is the best score minus the second, NaN where there is none. Methods are
    in the order of tables, without those that have no predictions.

    Args:
        selections: the rows of the setting.
        images_of: returns the list of images that a row names, or None.
    """

    @cache
    def columns_of(hash_: str) -> Columns | None:
        if (images := images_of(hash_)) is None:
            return None
        return {name: images[name].to_numpy(zero_copy_only=False) for name in ("image_id", "path", "group")}

    found = [(method, list(_of_picks(selections, method, columns_of))) for method in selections.parts]
    return {method: _together(parts) for method, parts in found if parts}


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
    values = {name: [np.broadcast_to(part[name], len(part["class"])) for part in parts] for name in COLUMNS}
    return pd.DataFrame({name: np.concatenate(of_column) for name, of_column in values.items()})


def read_of(selections: Selections) -> dict[Method, list[tuple[float, float, float, int]]]:
    """Return how well the environment is read before and after each method that projects.

    Returns:
        Method -> of each pick that was looked at, by the rule by which reports compare: balanced accuracy before and
        after, chance, and the rank.
    """
    found = {}
    for method in selections.parts:
        picks = selections.picks(method, selections.rule)["rank"].tolist()
        columns = ("read_ranks", "read_before", "read_after", "read_chance")
        rows = selections.chosen_rows(method, selections.rule, columns)
        of_picks = [
            (one["read_before"], one["read_after"][list(one["read_ranks"]).index(rank)], one["read_chance"], rank)
            for rank, one in zip(picks, rows.to_dict("records"), strict=True)
            if isinstance(one["read_ranks"], list) and rank in one["read_ranks"]
        ]
        if of_picks:
            found[method] = of_picks
    return found
