"""Which picks have their predictions written image by image, and what these are found by again."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np
import pandas as pd

from benchmark.method.evaluation.selection import SOURCE_RULES
from benchmark.store.details import Details, Part, Pick, has_details
from reports.chosen import Selections
from reports.methods import Method
from reports.settings import Setting

DetailsOf = Callable[[Part], Details | None]
_OF_ROW = (
    "trial_id", "held_out", "seed", "fold", "test_split", "class_half", "lambda_", "projection_params",
    "predictor_params", "tested",
)  # fmt: skip


def parts_of(setting: Setting, selections: Selections) -> list[Part]:
    """Return what predictions there are to be of a setting: a part for each method that a fair rule picks of.

    `benchmark.store.details.read_details(storage, part)` has what was written for one.

    Args:
        setting: of the rows.
        selections: its rows.
    """
    words = {field.name: str(getattr(setting, field.name)) for field in dataclasses.fields(setting)}
    return [
        Part(words, method.label, method.predictor, not method.is_plain, picks)
        for method in selections.parts
        if has_details(method.projection, method.order, method.variant) and (picks := _picks(selections, method))
    ]


def _picks(selections: Selections, method: Method) -> tuple[Pick, ...]:
    """Return what the fair rules pick of a method, rule by rule."""
    return tuple(
        Pick(
            rule=rule,
            trial=str(row["trial_id"]),
            held_out=str(row["held_out"]),
            seed=int(row["seed"]),
            fold=int(row["fold"]),
            test_split=str(row["test_split"]),
            class_half=str(row["class_half"]),
            rank=int(pick["rank"]),
            lambda_=None if pd.isna(row["lambda_"]) else float(row["lambda_"]),
            projection_params=str(row["projection_params"]),
            predictor_params=str(row["predictor_params"]),
            tested=str(row["tested"]),
            correct=np.packbits(pick["correct"]).tobytes(),
            n=len(pick["correct"]),
        )
        for rule in SOURCE_RULES
        for pick, row in zip(
            selections.picks(method, rule)[["rank", "correct"]].to_dict("records"),
            selections.chosen_rows(method, rule, _OF_ROW).to_dict("records"),
            strict=True,
        )
    )


def details_there(setting: Setting, selections: Selections, details_of: DetailsOf) -> list[tuple[Part, Details]]:
    """Return what was written of the picks in a setting, part by part; nothing for those without.

    Args:
        setting: what the rows share.
        selections: the rows of that setting.
        details_of: returns what was written for a part, or None.
    """
    return [(part, found) for part in parts_of(setting, selections) if (found := details_of(part)) is not None]


def decodability(details: Mapping[Setting, Sequence[tuple[Part, Details]]]) -> tuple[str, ...]:
    """Return sentences on how well the environment is read from embeddings, before and after each projection."""
    sentences = []
    for setting, found in details.items():
        for part, one in found:
            if not (part.projects and one.decoded):
                continue
            before, after, chance = (
                100 * fmean(getattr(decoded, of) for decoded in one.decoded) for of in ("before", "after", "chance")
            )
            sentences.append(
                f"{setting.banner}{setting.dataset}, {setting.backbone_label}: a linear classifier reads the "
                f"environment at {before:.1f} % from embeddings and at {after:.1f} % after "
                f"{part.method} (chance {chance:.1f} %)."
            )
    return tuple(sentences)
