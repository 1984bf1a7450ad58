"""Rank curves: the numbers of one fold on one set of tested images, against the rank kept."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.metrics import METRICS
from benchmark.method.evaluation.protocols import ClassHalf, TestSplit
from benchmark.method.evaluation.selection import RULES, best_index


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error on the tested images.

    Attributes:
        error: the error of the probabilities as they are, between 0 and 1.
        scaled_error: the error with the temperature that makes the out-splits of the sources likeliest.
        temperature: that temperature, by which logits are divided.
    """

    error: float
    scaled_error: float
    temperature: float


@dataclass(frozen=True)
class Selected:
    """What is kept of the rank that a selection rule picks within a row.

    Attributes:
        index: position among the ranks.
        correct: whether each tested image is classified correctly, shape (m,), environment by environment; None where
            base and new classes are taken together.
        per_class: accuracy of every class, NaN for one without tested images; None likewise.
        calibration: None for rules that look at the target, and where scores are no likelihoods.
    """

    index: int
    correct: NDArray[np.bool_] | None
    per_class: list[float] | None
    calibration: Calibration | None = None


@dataclass(frozen=True)
class RankCurve:
    """Metrics of one fold on one set of tested images against the rank kept; every list runs over the ranks.

    Attributes:
        held_out: what is held out, as rows call it.
        test_split: which of its images are tested.
        class_half: which classes they are of; `harmonic` takes base and new ones together.
        training_domain: mean accuracy on the out-splits of the source environments (of the classes fitted on).
        lodo: mean accuracy over fits that leave out one source environment and are tested on it; None where one source
            is all there is.
        metrics: name of each of `METRICS` -> its values on the tested images.
        selected: rule -> what is kept of the rank that it picks; rules without a score are absent.
        n_train: number of training images.
        n_test: number of tested images.
        tested: environment -> number of its tested images, in the order in which they stand in `Selected.correct`.
        groups: number of the group of each tested image, in the same order, shape (m,); None where images come in no
            groups, and where base and new classes are taken together.
        spectrum: eigenvalues of the basis fitted on the sources, or None.
    """

    held_out: str
    test_split: TestSplit
    class_half: ClassHalf
    training_domain: list[float]
    lodo: list[float] | None
    metrics: dict[str, list[float]]
    selected: dict[str, Selected]
    n_train: int
    n_test: int
    tested: dict[str, int]
    groups: NDArray[np.int64] | None
    spectrum: list[float] | None


def combined(base: RankCurve, new: RankCurve) -> RankCurve:
    """Return what stands for base and new classes together: of accuracies the harmonic mean, rank by rank."""
    curves = {m.name: np.asarray(m.combine(base.metrics[m.name], new.metrics[m.name])).tolist() for m in METRICS}
    picks = {
        name: best_index(curves[rule.score]) if rule.looks_at_target else base.selected[name].index
        for name, rule in RULES.items()
        if rule.looks_at_target or name in base.selected
    }
    return replace(
        base,
        class_half="harmonic",
        metrics=curves,
        selected={name: Selected(index, None, None) for name, index in picks.items() if index is not None},
        n_test=base.n_test + new.n_test,
        tested={name: n + new.tested[name] for name, n in base.tested.items()},
        groups=None,
    )
