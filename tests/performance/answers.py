"""What is credited with a gain of shrinkage, from embeddings straight to the verdict: for thousands of simulations.

Zero-shot, one environment held out, everything chosen by `lodo`. Moments, nuisances, filters, intervals, the family of
comparisons and the credit are the project's own. Written anew is the loop around them, which makes no rows: a report
makes of them the same verdict, which tests/performance/test_answers.py holds it to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, scaled
from benchmark.method.evaluation.inference import MARGIN, Scores, difference_interval
from benchmark.method.evaluation.other_environments import environment_interval
from benchmark.method.evaluation.splits import Split, TestSplit, Turn, turn_of
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.method.subspace.nuisance import Nuisance, nuisance
from benchmark.method.subspace.placebos import Borrowed
from benchmark.method.subspace.roots import roots_of
from benchmark.method.subspace.shrinkage import Filter
from benchmark.store.older_rows import presentation_of
from reports.answers import Size
from reports.comparisons import Comparison
from reports.controls import Expected, Verdict, verdict
from reports.credit import pairs
from reports.methods import REPLACED, Method
from tests.performance.in_process import Images

PREDICTOR, RULE = "zero_shot", "lodo"
# Every N that is fitted, with the real C_d or with a borrowed one; "" is the plain space.
FITS: tuple[tuple[Nuisance | None, bool], ...] = (
    (None, False),
    ("interventions", False),
    ("environments", False),
    ("both", False),
    ("interventions", True),
    ("both", True),
    ("isotropic_environments", False),
)


def method_of(projection: str, variant: str | None = None, placebo: str | None = None) -> Method:
    """Return a method of the predictor as rows of it have it."""
    shown = presentation_of(PROJECTIONS, projection), presentation_of(PREDICTORS, PREDICTOR)
    made = Method(projection, None, PREDICTOR, variant, placebo=placebo)
    return replace(made, of_projection=shown[0], of_predictor=shown[1])


# Method -> the fits among which its rule chooses, in the order of rows; `fixed` chooses nothing, and what has
# interventions in the place of the chosen N takes the strength that shrinkage chose.
CANDIDATES: Mapping[Method, tuple[int, ...]] = {
    method_of("identity"): (0,),
    (OURS := method_of("shrinkage")): (1, 2, 3),
    method_of("shrinkage", "interventions"): (1,),
    method_of("shrinkage", "environments"): (2,),
    method_of("shrinkage", REPLACED): (1,),
    method_of("shrinkage", placebo="borrowed"): (4, 2, 5),
    method_of("isotropic_environments"): (6,),
    method_of("fixed"): (3,),
}
FIXED = 10.0


@dataclass(frozen=True)
class Design:
    """How a data set is held out.

    Attributes:
        held_out: name of the environment.
        split: how images are cut into sides.
        test_split: which of the held-out images are tested.
        lambdas: strengths to choose among, ascending; FIXED is fitted beside them.
    """

    held_out: str
    split: Split
    test_split: TestSplit
    lambdas: tuple[float, ...]

    @property
    def fitted(self) -> tuple[float, ...]:
        """All strengths that are fitted."""
        return tuple(sorted({*self.lambdas, FIXED}))

    def turns(self, grouped: bool) -> Iterator[Turn]:
        """Yield what the sides are for, fold by fold."""
        for fold in range(self.split.folds) if self.split.folds else (None,):
            yield turn_of(self.split, fold, grouped)


@dataclass(frozen=True)
class Found:
    """What is found in a data set whose held-out environment is tested.

    Attributes:
        verdict: what is credited with a gain.
        accuracies: accuracy on the tested images of every fit at every strength, shape (FITS, lambdas).
    """

    verdict: Verdict
    accuracies: Array


def found(images: Images, lender: Images, design: Design, margin: float = MARGIN) -> Found:
    """Return what is found in a data set whose held-out environment is tested.

    Args:
        images: the data set.
        lender: whose C_d is borrowed.
        design: how it is held out.
        margin: within which two methods count as level.
    """
    data = images.data(design.split)
    weights = images.subject.weights_of(None) or dict.fromkeys([v.label for v in images.subject.views[1:]], 1.0)
    lent = images_c_d(lender, design, weights)
    target = data.environments.index(design.held_out)
    rows, answers, every = [], [], []
    for turn in design.turns(data.group is not None):
        of_tested = np.isin(data.side[design.split], list(turn.tested[design.test_split]))
        tested = np.flatnonzero((data.environment == target) & of_tested)
        rows.append(tested)
        lodo = _lodo(images, design, turn, target, weights, lent)
        sources = [e for e in range(len(data.environments)) if e != target]
        right = _answers(images, design, turn.fitted, sources, tested, weights, lent)
        answers.append(np.stack([right[point] for point in _picks(design, lodo)]))
        every.append(right)
    unit = data.group if data.group is not None else data.position
    positions = np.concatenate(rows)
    values = np.concatenate(answers, axis=1).astype(float)
    where = np.zeros(len(positions), dtype=np.int64)
    scores = Scores(values, where, where, np.asarray(unit)[positions])
    compared = list(_compared(scores, design.held_out))
    one = verdict(compared, Expected(held_out=design.held_out), margin)
    assert one is not None
    return Found(one, np.concatenate(every, axis=2).mean(axis=2))


def images_c_d(lender: Images, design: Design, weights: Mapping[str, float]) -> Array:
    """Return C_d over all images of a data set, shape (D, D)."""
    parts = [*lender.cells(design.split, "before").moments.values()]
    return sum(parts[1:], parts[0]).c_d(weights)


def _lodo(images: Images, design: Design, turn: Turn, target: int, weights: Mapping[str, float], lent: Array) -> Array:
    """Return the leave-one-domain-out accuracy of every fit at every strength, shape (FITS, lambdas)."""
    data, scores = images.data(design.split), []
    sources = [e for e in range(len(data.environments)) if e != target]
    judging = np.isin(data.side[design.split], list(turn.judging_left_out))
    for left_out in sources:
        rows = np.flatnonzero((data.environment == left_out) & judging)
        others = [e for e in sources if e != left_out]
        scores.append(_answers(images, design, turn.learned, others, rows, weights, lent).mean(axis=2))
    return np.asarray(np.mean(scores, axis=0))


def _picks(design: Design, lodo: Array) -> Iterator[tuple[int, int]]:
    """Yield which fit and strength each of CANDIDATES picks."""
    free = [design.fitted.index(lambda_) for lambda_ in design.lambdas]
    picked: dict[Method, tuple[int, int]] = {}
    for method, fits in CANDIDATES.items():
        strengths = free
        if method.projection == "fixed":
            strengths = [design.fitted.index(FIXED)]
        elif method.variant == REPLACED:
            strengths = [picked[OURS][1]]
        # lambda by lambda, as rows come: of equals a rule takes the first.
        picked[method] = max(((fit, i) for i in strengths for fit in fits), key=lambda point: lodo[point])
        yield picked[method]


def _answers(
    images: Images,
    design: Design,
    sides: frozenset[int],
    sources: list[int],
    rows: NDArray[np.int64],
    weights: Mapping[str, float],
    lent: Array,
) -> NDArray[np.bool_]:
    """Return whether some images are answered correctly after each fit on some sources, shape (fits, lambdas, rows)."""
    data = images.data(design.split)
    names = {e: data.environments[e] for e in sources}
    moments = images.cells(design.split, "before").sources(names, None, sides)
    real, borrowed = moments.reweighted(weights, None), moments.reweighted(weights, Borrowed(lent))
    z, text, label = scaled(data.z[rows], "before"), data.text.astype(np.float64), data.label[rows]
    right = np.empty((len(FITS), len(design.fitted), len(rows)), dtype=bool)
    for fit, (name, borrows) in enumerate(FITS):
        made = Filter.within(roots_of(real), nuisance(borrowed if borrows else real, name)) if name else None
        for i, lambda_ in enumerate(design.fitted):
            heads = _heads(made, lambda_, text) if made and lambda_ else text
            right[fit, i] = (z @ heads.T).argmax(axis=1) == label
    return right


def _heads(made: Filter, lambda_: float, text: Array) -> Array:
    """Return F^(1/2)^T F^(1/2) t / |F^(1/2) t| for each text, shape (classes, D), without a product of D x D matrices."""
    weights = (1 + lambda_ * made.ratios) ** -0.5  # see `Filter.power`
    mapped = (text @ made.right.T * weights) @ made.left.T + text @ made.rest.T
    mapped = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    return np.asarray((mapped @ made.left * weights) @ made.right + mapped @ made.rest)


def _compared(scores: Scores, held_out: str) -> Iterator[Comparison]:
    """Yield the comparisons that a report makes, of one held-out environment and seed."""
    numbers = {method: i for i, method in enumerate(CANDIDATES)}
    n = scores.values.shape[1]
    units = len(np.unique(scores.cluster))
    for method, baseline in pairs(CANDIDATES, PREDICTOR):
        interval = difference_interval(scores, numbers[method], numbers[baseline])
        ours, theirs = (float(scores.values[numbers[m]].mean()) for m in (method, baseline))
        yield Comparison(
            method, baseline, RULE, RULE, (held_out,), (0,), Size(units, units, n), (ours, theirs), interval, (interval,),
            environment_interval([interval.estimate]), shared=False, grouped=units < n, changed=(),
        )  # fmt: skip
