"""Rank curves: the numbers of one holdout on one set of tested images, against the rank kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.metrics import CURVES, harmonic_mean
from benchmark.method.evaluation.protocols import ClassHalf
from benchmark.method.evaluation.spans import Spans
from benchmark.method.evaluation.splits import TestSplit
from benchmark.method.evaluation.tested import Tested


@dataclass(frozen=True)
class Scored:
    """What the scores of the tested images say at one rank.

    Attributes:
        metrics: key of each metric of scores -> its value.
        error: expected calibration error of the probabilities as they are, between 0 and 1; None, as all that follows,
            where scores are no likelihoods.
        scaled_error: the error with the temperature that makes the judging images of the sources likeliest.
        temperature: that temperature, by which logits are divided.
    """

    metrics: Mapping[str, float]
    error: float | None = None
    scaled_error: float | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Predictions:
    """What tested images are taken for at one rank.

    Attributes:
        classes: number of the predicted class of each image, shape (m,).
        margins: best score minus the second, shape (m,); NaN where there is no second score, or it is infinite.
    """

    classes: NDArray[np.uint16]
    margins: NDArray[np.float32]

    def __getitem__(self, which: NDArray[np.int64]) -> "Predictions":
        return Predictions(self.classes[which], self.margins[which])


@dataclass(frozen=True)
class RankCurve:
    """Metrics of one holdout on one set of tested images against the rank kept; every list runs over the ranks.

    Attributes:
        setting: position among the predictor's `settings`.
        held_out: what is held out, as rows call it.
        fold: the tested fold; -1 for an 80/20 split.
        test_split: which of its images are tested.
        class_half: which classes they are of; `harmonic` takes base and new ones together.
        training_domain: mean accuracy on judging images of the source environments (of the classes fitted on).
        lodo: mean accuracy over fits that leave out one source environment and are tested on it; None where that would
            leave fewer than two.
        training_domain_se, lodo_se: standard error of the paired difference of each score to that of plain prediction;
            None (default) where it is not known.
        target_out: accuracy on the out-split of what is held out, by which DomainBed's oracle chooses where the
            in-split is tested; None elsewhere.
        metrics: key of each of `CURVES` -> its values on the tested images.
        correct: whether each tested image is classified correctly, shape (ranks, m).
        tested: these images.
        scored: selection rule -> what scores say at the rank that it picks; for the setting that it picks alone.
        n_train: number of training images.
        n_selection: number of those that the predictor was fitted on, at ranks that are not in `full_ranks`; None
            (default) where it was all of them everywhere.
        full_ranks: ranks at which it was fitted on all of them where elsewhere it was not; none by default.
        predictions: position of a rank -> what the tested images are taken for there; at the ranks with the highest
            score of each rule that looks at sources alone. None by default.
        labels_fit: number of labelled images that projection or predictor learn from.
        labels_choice: number of labelled images by which rules may choose.
        notes: what the fit has to say, such as that it did not converge.
        spectrum: eigenvalues of the basis fitted on the sources, or None.
        spans: what the fit removes of the shifts of class means; by default nothing is known.
    """

    setting: int
    held_out: str
    fold: int
    test_split: TestSplit
    class_half: ClassHalf
    training_domain: list[float]
    lodo: list[float] | None
    target_out: list[float] | None
    metrics: dict[str, list[float]]
    correct: NDArray[np.bool_]
    tested: Tested
    scored: Mapping[str, Scored]
    n_train: int
    labels_fit: int
    labels_choice: int
    notes: tuple[str, ...]
    spectrum: list[float] | None
    spans: Spans = field(default_factory=Spans)
    training_domain_se: list[float] | None = None
    lodo_se: list[float] | None = None
    n_selection: int | None = None
    full_ranks: tuple[int, ...] = ()
    predictions: Mapping[int, Predictions] = field(default_factory=dict)

    def with_full_fit(self, full: "RankCurve", rank: int, index: int, rules: Sequence[str]) -> "RankCurve":
        """Return the curve with what a fit to all training images says at one rank.

        Scores by which rules choose stay what they are: those of fits that can be compared.

        Args:
            full: the same test at that rank alone.
            rank: the rank.
            index: its position.
            rules: the selection rules that pick the point, and have what its scores say.
        """
        correct = self.correct.copy()
        correct[index] = full.correct[0]
        of_rank = full.scored.values()
        return replace(
            self,
            metrics={name: _replaced(values, index, full.metrics[name]) for name, values in self.metrics.items()},
            target_out=self.target_out and full.target_out and _replaced(self.target_out, index, full.target_out),
            correct=correct,
            scored={**self.scored, **{rule: one for one in of_rank for rule in rules}},
            notes=tuple(dict.fromkeys([*self.notes, *full.notes])),
            full_ranks=tuple(sorted({*self.full_ranks, rank})),
            predictions={**self.predictions, **({index: full.predictions[0]} if full.predictions else {})},
        )


def _replaced(values: Sequence[float], index: int, one: Sequence[float]) -> list[float]:
    return [one[0] if i == index else value for i, value in enumerate(values)]


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
