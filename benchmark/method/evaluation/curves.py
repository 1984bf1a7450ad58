"""Rank curves: results of one holdout on one test set at every rank.

`curve_columns` in `benchmark/store/rows.py` stores them. A further field needs a column and a higher `VERSION` there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Ints, Mask
from benchmark.method.evaluation.metrics import CURVES, harmonic_mean
from benchmark.method.evaluation.protocols import ClassHalf
from benchmark.method.evaluation.spans import Spans
from benchmark.method.evaluation.splits import TestSplit
from benchmark.method.evaluation.tested import Tested


@dataclass(frozen=True)
class Scored:
    """Metrics of the scores of test images at one rank."""

    metrics: Mapping[str, float]  # key of each metric of scores -> its value
    error: float | None = None  # expected calibration error; None, as the fields below, if scores are not logits
    # the same error after temperature scaling, fitted on validation images
    scaled_error: float | None = None
    temperature: float | None = None  # the fitted temperature, by which logits are divided


@dataclass(frozen=True)
class Predictions:
    """Predictions for test images at one rank."""

    classes: NDArray[np.uint16]  # predicted class of each image, shape (m,)
    margins: NDArray[np.float32]  # highest minus second-highest score of each image, shape (m,)

    def __getitem__(self, which: Ints) -> "Predictions":
        return Predictions(self.classes[which], self.margins[which])

    def __add__(self, other: "Predictions") -> "Predictions":
        classes = np.concatenate([self.classes, other.classes])
        return Predictions(classes, np.concatenate([self.margins, other.margins]))


@dataclass(frozen=True)
class RankCurve:
    """Metrics of one holdout on one test set; every list runs over the ranks."""

    setting: int  # index in the predictor's `settings`
    held_out: str  # name of the holdout in result rows
    fold: int  # number of the tested fold; -1 for an 80/20 split
    test_split: TestSplit  # the tested split
    class_half: ClassHalf  # half of the classes; `harmonic`: harmonic mean of base and new
    # mean accuracy over source environments on validation images, of the classes in the fit
    training_domain: list[float]
    lodo: list[float] | None  # mean accuracy over left-out sources; None with too few sources
    # if the in-split is tested, accuracy on the out-split of the held-out environment, used by DomainBed's oracle;
    # otherwise None
    target_out: list[float] | None
    metrics: dict[str, list[float]]  # key of each metric in `CURVES` -> its values on the tested images
    correct: Mask  # whether each tested image is classified correctly, shape (ranks, m)
    tested: Tested  # the test images
    scored: Mapping[str, Scored]  # selection rule -> metrics of scores at its selected rank
    n_train: int  # number of training images
    labels_fit: int  # number of labelled images used by projection or predictor
    labels_choice: int  # number of labelled validation images
    notes: tuple[str, ...]  # warnings of the fit, e.g. non-convergence
    spectrum: list[float] | None  # eigenvalues of the basis fitted on the sources, or None
    spans: Spans = field(default_factory=Spans)  # shares of the shifts of class means that the fit removes
    # standard errors of the paired differences between each score and that of plain prediction; None (default) if
    # unknown
    training_domain_se: list[float] | None = None
    lodo_se: list[float] | None = None
    # number of training images of the predictor at ranks outside `full_ranks`; None (default): all images at all ranks
    n_selection: int | None = None
    full_ranks: tuple[int, ...] = ()  # ranks refitted on all training images
    # index of a rank -> predictions, for the ranks that rules of `SCORES` select. Empty by default
    predictions: Mapping[int, Predictions] = field(default_factory=dict)

    def with_full_fit(self, full: "RankCurve", rank: int, index: int, rules: Sequence[str]) -> "RankCurve":
        """Return the curve with its results at position `index` replaced by results of `full`.

        `full` is the curve of a fit on all images for the same test, with `rank` as its only rank. Selection scores are
        not replaced: all of them come from fits on a subsample, so they are comparable. `rules`: the rules that select
        this point; they get the metrics of its scores.
        """

        def replaced(values: Sequence[float], one: Sequence[float]) -> list[float]:
            return [one[0] if i == index else value for i, value in enumerate(values)]

        correct = self.correct.copy()
        correct[index] = full.correct[0]
        of_rank = full.scored.values()
        return replace(
            self,
            metrics={name: replaced(values, full.metrics[name]) for name, values in self.metrics.items()},
            target_out=self.target_out and full.target_out and replaced(self.target_out, full.target_out),
            correct=correct,
            scored={**self.scored, **{rule: one for one in of_rank for rule in rules}},
            notes=tuple(dict.fromkeys([*self.notes, *full.notes])),
            full_ranks=tuple(sorted({*self.full_ranks, rank})),
            predictions={**self.predictions, **({index: full.predictions[0]} if full.predictions else {})},
        )


def combined(base: Sequence[RankCurve], new: Sequence[RankCurve]) -> list[RankCurve]:
    """Return one curve per setting for base and new classes together, with harmonic means of accuracies."""
    return [
        replace(
            of_base,
            class_half="harmonic",
            metrics={m.key: m.combine(of_base.metrics[m.key], of_new.metrics[m.key]).tolist() for m in CURVES},
            target_out=None
            if of_base.target_out is None or of_new.target_out is None
            else harmonic_mean(of_base.target_out, of_new.target_out).tolist(),
            correct=np.concatenate([of_base.correct, of_new.correct], axis=1),
            tested=of_base.tested + of_new.tested,
            scored={},
            predictions={},  # rows of base classes and rows of new classes have them
        )
        for of_base, of_new in zip(base, new, strict=True)
    ]
