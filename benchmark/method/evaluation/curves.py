"""Rank curves: the numbers of one holdout on one set of tested images, against the rank kept."""

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
    """What the scores of the tested images say at one rank."""

    metrics: Mapping[str, float]  # key of each metric of scores -> its value
    error: float | None = None  # expected calibration error; None, as what follows, if no likelihood
    # the error with the temperature that makes the validation images of the sources likeliest
    scaled_error: float | None = None
    temperature: float | None = None  # that temperature, by which logits are divided


@dataclass(frozen=True)
class Predictions:
    """What tested images are taken for at one rank."""

    classes: NDArray[np.uint16]  # number of the predicted class of each image, shape (m,)
    margins: NDArray[np.float32]  # best score minus the second, shape (m,)

    def __getitem__(self, which: Ints) -> "Predictions":
        return Predictions(self.classes[which], self.margins[which])

    def __add__(self, other: "Predictions") -> "Predictions":
        classes = np.concatenate([self.classes, other.classes])
        return Predictions(classes, np.concatenate([self.margins, other.margins]))


@dataclass(frozen=True)
class RankCurve:
    """Metrics of one holdout on one set of tested images against the rank kept; every list runs over the ranks."""

    setting: int  # position among the predictor's `settings`
    held_out: str  # what is held out, as rows call it
    fold: int  # the tested fold; -1 for an 80/20 split
    test_split: TestSplit  # which of its images are tested
    class_half: ClassHalf  # which classes they are of; `harmonic` takes base and new ones together
    # mean accuracy on validation images of the source environments (of the classes fitted on)
    training_domain: list[float]
    lodo: list[float] | None  # mean accuracy on sources that fits leave out; None where too few are left
    # accuracy on the out-split of what is held out, by which DomainBed's oracle chooses where the in-split is tested;
    # None elsewhere
    target_out: list[float] | None
    metrics: dict[str, list[float]]  # key of each of `CURVES` -> its values on the tested images
    correct: Mask  # whether each tested image is classified correctly, shape (ranks, m)
    tested: Tested  # these images
    scored: Mapping[str, Scored]  # selection rule -> what scores say at the rank that it picks
    n_train: int  # number of training images
    labels_fit: int  # number of labelled images that projection or predictor learn from
    labels_choice: int  # number of labelled images by which rules may choose
    notes: tuple[str, ...]  # what the fit has to say, such as that it did not converge
    spectrum: list[float] | None  # eigenvalues of the basis fitted on the sources, or None
    spans: Spans = field(default_factory=Spans)  # what the fit removes of the shifts of class means
    # standard error of the paired difference of each score to that of plain prediction; None (default) where it is not
    # known
    training_domain_se: list[float] | None = None
    lodo_se: list[float] | None = None
    # number of those that the predictor was fitted on, at ranks that are not in `full_ranks`; None (default) where it
    # was all of them everywhere
    n_selection: int | None = None
    full_ranks: tuple[int, ...] = ()  # ranks at which it was fitted on all of them where elsewhere it was not
    # position of a rank -> what the tested images are taken for there; at the ranks with the highest score of each rule
    # that looks at sources alone. None by default
    predictions: Mapping[int, Predictions] = field(default_factory=dict)

    def with_full_fit(self, full: "RankCurve", rank: int, index: int, rules: Sequence[str]) -> "RankCurve":
        """Return the curve with what a fit to all images (`full`: the same test at one rank alone) says at that rank.

        Scores by which rules choose stay what they are: those of fits that can be compared. `rules` pick the point, and
        have what its scores say.
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
    """Return what stands for base and new classes together, setting by setting: of accuracies the harmonic mean."""
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
            predictions={},  # the rows of base and of new classes have them
        )
        for of_base, of_new in zip(base, new, strict=True)
    ]
