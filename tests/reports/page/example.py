"""A page of SYNTHETIC rows with hostile names: two settings, one with predictions."""

from typing import Any

import numpy as np
import pandas as pd

from reports.analysis.selections import Predictions, Selections
from reports.analysis.settings import Options, Setting
from reports.page.build import PageContent, page
from reports.render.formats import html
from reports.text.sentences import Origin
from tests.reports import synthetic
from tests.reports.page.standin import FORMATS, answer, table
from tests.reports.synthetic import row

HOSTILE = "<script>alert(1)</script>"
CLASSES = ["a_b%", HOSTILE, "=cmd|x"]
HELD_OUTS = ("art", "a_b%", "clip | art", "x<y")


def rows(dataset: str = "synthetic", **other: Any) -> list[dict[str, Any]]:
    """Two predictors, plain, PCA, random and CLIP-ICM at two lambdas and three ranks, in four environments."""
    made, random = [], np.random.default_rng(7)
    shared = {"dataset": dataset, "classes": CLASSES, "n_classes": 3, "labels": np.arange(90) % 3, **other}

    def one(held_out: str, seed: int, projection: str, predictor: str, **more: Any) -> dict[str, Any]:
        share = random.uniform(0.4, 0.7, (1 if projection == "identity" else 3, 1))
        answers = random.random((len(share), 90)) < share
        scores = random.random(len(share)).tolist()
        return row(
            held_out=held_out, seed=seed, projection=projection, predictor=predictor, correct=answers,
            training_domain=scores, lodo=scores[::-1], **{**shared, **more},
        )  # fmt: skip

    for held_out in HELD_OUTS:
        for seed in (0, 1):
            for predictor in ("zero_shot", "linear_probe"):
                made.append(one(held_out, seed, "identity", predictor))
                for projection in ("pca", "random"):
                    made.append(one(held_out, seed, projection, predictor))
                for lambda_ in (1.0, 10.0):
                    more = {"order": "largest", "lambda_": lambda_, "intervention_set": "all"}
                    made.append(one(held_out, seed, "icm", predictor, **more))
    return made


def results_of(*parts: list[dict[str, Any]]) -> list[tuple[Setting, Selections]]:
    return synthetic.results_of([line for part in parts or (rows(), rows("other")) for line in part])


def predictions(setting: Setting, selections: Selections) -> dict[Setting, Predictions]:
    """Return invented predictions of plain zero-shot and CLIP-ICM, repeating three images."""
    n = len(HELD_OUTS) * 6
    columns = {
        "image_id": [f"{HOSTILE}{k % 6}" for k in range(n)],
        "path": [f"{HOSTILE}/{k % 6}.jpg" for k in range(n)],
        "held_out": [name for name in HELD_OUTS for _ in range(6)],
        "class": [CLASSES[k % 3] for k in range(n)],
        "seed": [0] * n,
        "rule": ["lodo"] * n,
    }
    shown = [m for m in selections.parts if m.predictor == "zero_shot" and (m.is_plain or m.projection == "icm")]
    answers = [[CLASSES[(k + number * (k % 2)) % 3] for k in range(n)] for number in range(len(shown))]
    tables = [pd.DataFrame({**columns, "predicted": predicted}) for predicted in answers]
    return {setting: dict(zip(shown, tables, strict=True))}


def made(parts: list[tuple[Setting, Selections]], **other: Any) -> bytes:
    """Return the page of settings, with a table of the first as Table 1, and one of each setting."""
    tables = [table(*parts[0]), *(table(*one, name=f"environments-{k}") for k, one in enumerate(parts))]
    origin = Origin("A <report>", left_out=("One trial failed & so.",))
    forms = {one.name: {"html": html(one), **FORMATS.get(one.name, {})} for one in tables}
    given = {"forms": forms, "predictions": predictions(*parts[0]), "ledger": [("Device", "two cores <b>")]}
    return page(PageContent(origin, answer(parts), parts, tables, Options(), **{**given, **other}))
