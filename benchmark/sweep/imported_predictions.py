"""Converts predictions of an external method to result rows like those of a trial.

If external methods lack a new column of `benchmark/store/rows.py`, add it to `_UNKNOWN` too.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmark.common.registry import Presentation
from benchmark.method.evaluation.curves import Predictions, RankCurve, combined
from benchmark.method.evaluation.fits import enough_sources_left
from benchmark.method.evaluation.metrics import CURVES, Answers
from benchmark.method.evaluation.protocols import Holdout, Test
from benchmark.method.evaluation.roles import Roles
from benchmark.method.evaluation.selection import IMPORTED
from benchmark.method.evaluation.splits import TestSplit
from benchmark.store.rows import curve_columns, prediction_columns
from benchmark.sweep.evaluate import Evaluated, Row, common_columns
from benchmark.sweep.subject import Seen
from benchmark.sweep.trials import Trial

# Columns that are unknown for an external method, or that it does not have.
_UNKNOWN = (
    "intervention_set", "interventions", "projection_variant", "nuisance", "placebo", "placebo_draw", "placebo_seed",
    "lender", "pairs_share", "pairs_seed", "train_share", "order", "lambda_", "normalize", "predictor_variant",
    "view_draw", "n_train", "labels_fit", "labels_choice",
)  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """Predictions of one setting of an external method in one test.

    Attributes:
        setting: name of the setting; empty if the method has only one.
        source_score: accuracy on the sources, 0 to 1, by which settings are selected; NaN if unknown.
        predicted: predicted class index of each image of the protocol, shape (n,). Only test images are used.
    """

    setting: str
    source_score: float
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class ImportedTest:
    """One test of a recipe, the same for all methods.

    Attributes:
        trial: any trial in the recipe that has this test.
        images: the images that the trial's protocol uses.
        holdout: the holdout that is tested.
        split: the tested part of the held-out environment.
    """

    trial: Trial
    images: Seen
    holdout: Holdout
    split: TestSplit

    @cached_property
    def roles(self) -> Roles:
        """Roles of the images in the test."""
        return Roles(self.images.data, self.trial.spec.split, self.trial.spec.fold)

    @property
    def can_choose(self) -> bool:
        """Whether sources have validation images, so that rules can select."""
        return bool(self.holdout.validation_sources(self.roles.turn))


def imported_rows(test: ImportedTest, method: str, answered: Sequence[Answered]) -> Evaluated:
    """Return the result rows of an external method in one test, and the test images.

    The columns of all source rules have the source score, NaN if unknown. Columns that an external method lacks are
    null. Its only rank is the width of the backbone.
    """
    ranks = [test.trial.subject.facts.dim]
    common = {
        **common_columns(test.trial),
        **dict.fromkeys(_UNKNOWN),
        "classes": test.images.data.classes,
        "projection": IMPORTED,
        **Presentation(label="Imported").columns("projection"),
        "projection_params": "{}",
        "predictor": method,
        **Presentation(label=method, traits=("uses_training_images",)).columns("predictor"),
        "ranks": ranks,
    }
    rows: list[Row] = []
    tested = {}
    for of_setting in answered:
        params = json.dumps({"setting": of_setting.setting} if of_setting.setting else {}, ensure_ascii=False)
        curves = [_curve(test, one, of_setting) for one in test.holdout.tests if one.split == test.split]
        by_half = {curve.class_half: curve for curve in curves}
        if {"base", "new"} <= set(by_half):  # a further row for both together
            curves += combined([by_half["base"]], [by_half["new"]])
        for curve in curves:
            columns = {name: value for name, value in curve_columns(curve).items() if name not in _UNKNOWN}
            if curve.predictions:
                columns |= prediction_columns(curve.predictions, ranks)
            rows.append({**common, "predictor_params": params, **columns})
            tested[curve.tested.hash] = curve.tested
    return Evaluated(rows, list(tested.values()))


def _curve(test: ImportedTest, one: Test, answered: Answered) -> RankCurve:
    roles, holdout = test.roles, test.holdout
    rows = np.flatnonzero(roles.of_test(one))
    tested, order = roles.named(rows)
    predicted = answered.predicted[rows[order]]
    correct = (predicted == tested.label)[None]
    answers = Answers(correct, tested.label, len(test.images.data.classes))
    score = [answered.source_score]
    return RankCurve(
        setting=0,
        held_out=holdout.name,
        fold=-1 if test.trial.spec.fold is None else test.trial.spec.fold,
        test_split=one.split,
        class_half=one.half,
        training_domain=score,
        lodo=score if any(enough_sources_left(holdout, s) for s in holdout.validation_sources(roles.turn)) else None,
        target_out=[np.nan] if one.split == "in_80" else None,  # the method has no predictions there
        metrics={m.key: np.asarray(m.compute(answers)).tolist() for m in CURVES},
        correct=correct,
        tested=tested,
        scored={},
        predictions={0: Predictions(predicted.astype(np.uint16), np.full(len(predicted), np.nan, np.float32))},
        n_train=0,
        labels_fit=0,
        labels_choice=0,
        notes=(),
        spectrum=None,
    )
