"""What methods take the tested images for, image by image: read from the rows that rules pick."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmark.method.evaluation.selection import SOURCE_RULES
from reports.chosen import Selections
from reports.methods import Method
from reports.settings import Setting

ImagesOf = Callable[[str], pa.Table | None]  # hash of a list of images -> columns of `benchmark.store.images.COLUMNS`
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
    found = [(method, list(_of_picks(selections, method, images_of))) for method in selections.parts]
    return [MethodPredictions(method, pd.concat(parts, ignore_index=True)) for method, parts in found if parts]


def _of_picks(selections: Selections, method: Method, images_of: ImagesOf) -> Iterator[pd.DataFrame]:
    """Yield the images of each pick, with the names of their classes and predictions."""
    classes = np.array(selections.rows["classes"].iloc[0], dtype=object)
    for rule in SOURCE_RULES:
        picks = selections.picks(method, rule)
        places = zip(picks["held_out"], picks["seed"], picks["fold"], selections.kept(method, rule), strict=True)
        for held_out, seed, fold, of_pick in places:
            for kept in of_pick:
                tested, images = selections.tested[kept.tested], images_of(kept.images) if kept.images else None
                unknown = {"image_id": [str(n) for n in tested.position], "path": "", "group": None}
                named = pd.DataFrame(unknown)
                if images is not None:
                    named = images.select(["image_id", "path", "group"]).take(tested.position).to_pandas()
                found = {
                    "class": classes[tested.label],
                    "predicted": classes[kept.classes],
                    "margin": kept.margins,
                    "environment": np.array(tested.names, dtype=object)[tested.environment],
                }
                yield named.assign(
                    **found, held_out=str(held_out), half=kept.half, seed=int(seed), fold=int(fold),
                    method=method.label, predictor=method.predictor, rule=rule,
                )[list(COLUMNS)]  # fmt: skip


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
