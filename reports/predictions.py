"""What methods take the tested images for, image by image: read from the rows that rules pick."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmark.method.evaluation.selection import KEY, SOURCE_RULES
from reports.chosen import Selections
from reports.methods import Method
from reports.settings import Setting

ImagesOf = Callable[[str], pa.Table | None]  # hash of a list of images -> columns of `benchmark.store.images.COLUMNS`
COLUMNS = (
    "image_id", "path", "environment", "class", "group", "held_out", "half", "seed", "fold", "method", "predictor",
    "rule", "predicted", "margin",
)  # fmt: skip
_SAME = ("trial_id", *KEY, "test_split", "lambda_", "projection_params", "predictor_params")
_OF_ROW = ("class_half", "tested", "images", "predicted_ranks", "predicted", "margins")
_HALVES = {"harmonic": ("base", "new")}  # rows of both together refer to those of each


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


class Predictions:
    """The predictions that rows of a report have.

    Args:
        rows: all rows of the report.
        images_of: returns the list of images that a row names, or None.
    """

    def __init__(self, rows: pd.DataFrame, images_of: ImagesOf) -> None:
        there = rows[rows["predicted"].notna()] if "predicted" in rows.columns else rows.iloc[:0]
        self._rows = {
            (*_values(row, _SAME), row["class_half"]): row for row in there[[*_SAME, *_OF_ROW]].to_dict("records")
        }
        self._images = {name: images_of(name) for name in there["images"].dropna().unique()} if len(there) else {}

    def of_setting(self, selections: Selections) -> list[MethodPredictions]:
        """Return the predictions of each method of a setting that has some, in the order of tables."""
        found = [(method, list(self._of_picks(selections, method))) for method in selections.parts]
        return [MethodPredictions(method, pd.concat(parts, ignore_index=True)) for method, parts in found if parts]

    def _of_picks(self, selections: Selections, method: Method) -> Iterator[pd.DataFrame]:
        classes = np.array(selections.rows["classes"].iloc[0], dtype=object)
        for rule in SOURCE_RULES:
            ranks = selections.picks(method, rule)["rank"].tolist()
            rows = selections.chosen_rows(method, rule, (*_SAME, "class_half")).to_dict("records")
            for rank, row in zip(ranks, rows, strict=True):
                for half in _HALVES.get(row["class_half"], (row["class_half"],)):
                    own = self._rows.get((*_values(row, _SAME), half))
                    if own is not None and rank in own["predicted_ranks"]:
                        yield self._of_pick(selections, own, rank, classes).assign(
                            held_out=str(row["held_out"]), half=half, seed=int(row["seed"]), fold=int(row["fold"]),
                            method=method.label, predictor=method.predictor, rule=rule,
                        )[list(COLUMNS)]  # fmt: skip

    def _of_pick(
        self,
        selections: Selections,
        row: Mapping[Any, Any],
        rank: int,
        classes: "np.ndarray[tuple[int], np.dtype[np.object_]]",
    ) -> pd.DataFrame:
        """Return the images, their classes and predictions of one row at one rank."""
        tested, images = selections.tested[str(row["tested"])], self._images.get(row["images"])
        at, count = list(row["predicted_ranks"]).index(rank), len(tested)
        predicted = np.frombuffer(row["predicted"], "<u2", count, 2 * at * count)
        margins = np.full(count, np.nan, np.float32)
        if isinstance(row["margins"], bytes):
            margins = np.frombuffer(row["margins"], "<f4", count, 4 * at * count)
        found = {
            "class": classes[tested.label],
            "predicted": classes[predicted],
            "margin": margins,
            "environment": np.array(tested.names, dtype=object)[tested.environment],
        }
        if images is None:
            unknown = {"image_id": [str(n) for n in tested.position], "path": "", "group": None}
            return pd.DataFrame(found | unknown)
        return images.select(["image_id", "path", "group"]).take(tested.position).to_pandas().assign(**found)


def _values(row: Mapping[Any, Any], names: Sequence[str]) -> tuple[object, ...]:
    """Return what a row has in some columns, None for an absent number, which is not equal to itself."""
    return tuple(None if row[name] != row[name] else row[name] for name in names)


def decodability(described: Sequence[tuple[Setting, Selections]]) -> tuple[str, ...]:
    """Return sentences on how well the environment is read from embeddings, before and after each projection."""
    sentences = []
    for setting, selections in described:
        for method, found in read_of(selections).items():
            before, after, chance = (100 * fmean(one[k] for one in found) for k in range(3))
            sentences.append(
                f"{setting.banner}{setting.dataset}, {setting.backbone_label}: a linear classifier reads the "
                f"environment at {before:.1f} % from embeddings and at {after:.1f} % after "
                f"{method.label} (chance {chance:.1f} %)."
            )
    return tuple(sentences)


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
