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
from benchmark.method.evaluation.answers import Size
from benchmark.method.evaluation.inference import Scores, difference_interval
from benchmark.method.evaluation.other_environments import environment_interval
from benchmark.method.evaluation.splits import Split, TestSplit, Turn, turn_of
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from benchmark.method.subspace.basis import roots_of
from benchmark.method.subspace.nuisance import Nuisance, nuisance
from benchmark.method.subspace.placebos import Borrowed
from benchmark.method.subspace.shrinkage import Filter
from reports.analysis.comparisons import Comparison
from reports.analysis.findings import ControlResult, Expected, baselines, control_result, judged
from reports.analysis.methods import REPLACED, Method, plain_for
from tests.performance.in_process import Images
from tests.reports.synthetic import presentation_of

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
            yield turn_of(self.split, fold, grouped, crossed=self.split.folds > 0)


@dataclass(frozen=True)
class Found:
    """What is found in a data set whose held-out environment is tested.

    Attributes:
        verdict: what is credited with a gain.
        accuracies: accuracy on the tested images of every fit at every strength, shape (FITS, lambdas).
    """

    verdict: ControlResult
    accuracies: Array


def found(images: Images, lender: Images, design: Design) -> Found:
    """Return what is found in a data set whose held-out environment is tested.

    Args:
        images: the data set.
        lender: whose C_d is borrowed.
        design: how it is held out.
    """
    data = images.data(design.split)
    weights = images.subject.weights_of(None) or dict.fromkeys([v.label for v in images.subject.views[1:]], 1.0)
    fits = _Fits(images, design, weights, images_c_d(lender, design, weights))
    target = data.environments.index(design.held_out)
    sources = tuple(e for e in range(len(data.environments)) if e != target)
    rows, answers, every = [], [], []
    for turn in design.turns(data.group is not None):
        of_tested = np.isin(data.side[design.split], list(turn.tested[design.test_split]))
        tested = np.flatnonzero((data.environment == target) & of_tested)
        rows.append(tested)
        lodo, errors = _lodo(fits, turn, sources)
        right = fits.answers(sources, turn.fitted, tested)
        points = list(_picks(design, lodo))
        kept = [_gated(method, point, lodo, errors) for method, point in zip(CANDIDATES, points, strict=True)]
        answers.append(np.stack([right[point] for point in (*points, *kept)]))
        every.append(right)
    positions = np.concatenate(rows)
    where = np.zeros(len(positions), dtype=np.int64)
    scores = Scores(np.concatenate(answers, axis=1).astype(float), where, where, fits.unit[positions])
    one = control_result(list(_compared(scores, design.held_out)), Expected(held_out=design.held_out))
    assert one is not None
    return Found(one, np.concatenate(every, axis=2).mean(axis=2))


def images_c_d(lender: Images, design: Design, weights: Mapping[str, float]) -> Array:
    """Return C_d over all images of a data set, shape (D, D)."""
    parts = [*lender.cells(design.split, "before").moments.values()]
    return sum(parts[1:], parts[0]).c_d(weights)


def _lodo(fits: "_Fits", turn: Turn, sources: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the leave-one-domain-out accuracy of every fit at every strength, and the standard error of its difference
    to that of plain prediction (METHOD, section 10), both of shape (FITS, lambdas).
    """
    side, environment = fits.data.side[fits.design.split], fits.data.environment
    scores, added, units = [], [], []
    for left_out in sources:
        others = tuple(e for e in sources if e != left_out)
        right = []
        for of in turn.validations:
            rows = np.flatnonzero((environment == left_out) & np.isin(side, list(of.left_out_sides)))
            right.append(fits.answers(others, of.learned, rows))
            units.append(fits.unit[rows])
        of_source = np.concatenate(right, axis=2).astype(float)
        scores.append(of_source.mean(axis=2))
        difference = of_source - of_source[0, 0]
        centred = difference - difference.mean(axis=2, keepdims=True)
        added.append(centred / (centred.shape[2] * len(sources)))
    of_unit = np.unique(np.concatenate(units), return_inverse=True)[1]
    u = np.concatenate(added, axis=2).reshape(-1, len(of_unit))
    sums = np.array([np.bincount(of_unit, row) for row in u])
    g = sums.shape[1]
    errors = np.sqrt(g / (g - 1) * (sums**2).sum(axis=1)).reshape(scores[0].shape)
    return np.asarray(np.mean(scores, axis=0)), errors


def _gated(method: Method, point: tuple[int, int], lodo: Array, errors: Array) -> tuple[int, int]:
    """Return what `lodo_1se` picks where `lodo` picks a point: that of plain prediction, (0, 0), unless it is ahead."""
    ahead = method.projection == "fixed" or lodo[point] - lodo[0, 0] > errors[point]
    return point if ahead else (0, 0)


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


class _Fits:
    """All fits on a data set, each made once.

    Args:
        images: the data set.
        design: how it is held out.
        weights: of the kinds of intervention.
        lent: C_d of the data set that lends.
    """

    def __init__(self, images: Images, design: Design, weights: Mapping[str, float], lent: Array) -> None:
        self.data, self.design = images.data(design.split), design
        self.unit = np.asarray(self.data.position if self.data.group is None else self.data.group)
        self._z, self._text = scaled(self.data.z, "before"), self.data.text.astype(np.float64)
        self._cells, self._weights, self._lent = images.cells(design.split, "before"), weights, lent
        self._heads: dict[tuple[object, ...], Array] = {}

    def answers(self, sources: tuple[int, ...], sides: frozenset[int], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether images are answered correctly after each fit on some sources, shape (fits, lambdas, rows)."""
        if (key := (sources, sides)) not in self._heads:
            self._heads[key] = self._made(sources, sides)
        return np.asarray((self._z[rows] @ self._heads[key].swapaxes(2, 3)).argmax(axis=3) == self.data.label[rows])

    def _made(self, sources: tuple[int, ...], sides: frozenset[int]) -> Array:
        """Return what stands for each text after each fit at each strength, shape (fits, lambdas, classes, D)."""
        moments = self._cells.sources({e: self.data.environments[e] for e in sources}, None, sides)
        real, borrowed = (moments.reweighted(self._weights, of) for of in (None, Borrowed(self._lent)))
        heads = []
        for name, borrows in FITS:
            made = Filter.from_roots(roots_of(real), nuisance(borrowed if borrows else real, name)) if name else None
            heads.append([_heads(made, x, self._text) if made and x else self._text for x in self.design.fitted])
        return np.array(heads)


def _heads(made: Filter, lambda_: float, text: Array) -> Array:
    """Return F^(1/2)^T F^(1/2) t / |F^(1/2) t| for each text, shape (classes, D), without a product of D x D matrices."""
    weights = (1 + lambda_ * made.ratios) ** -0.5  # see `Filter.power`
    mapped = (text @ made.right.T * weights) @ made.left.T + text @ made.rest @ made.rest.T
    mapped = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
    return np.asarray((mapped @ made.left * weights) @ made.right + mapped @ made.rest @ made.rest.T)


def _compared(scores: Scores, held_out: str) -> Iterator[Comparison]:
    """Yield the comparisons that a report makes, of one held-out environment and seed."""
    numbers = {method: i for i, method in enumerate(CANDIDATES)}
    n = scores.values.shape[1]
    units = len(np.unique(scores.cluster))
    every = [(m, b) for m in judged(CANDIDATES) for b in [plain_for(m, CANDIDATES), *baselines(CANDIDATES, m)] if b]
    # Gains by the rule and by the one that keeps nothing back, in which all other comparisons are.
    for method, baseline in every:
        for rule, first in ((f"{RULE}_1se", len(numbers)), (RULE, 0)) if baseline.is_plain else ((RULE, 0),):
            a, b = first + numbers[method], first + numbers[baseline]
            interval = difference_interval(scores, a, b)
            yield Comparison(
                method=method, baseline=baseline, rule=rule, held_outs=(held_out,), seeds=(0,),
                size=Size(units, units, n), interval=interval, single=(interval,),
                accuracies=(float(scores.values[a].mean()), float(scores.values[b].mean())),
                others=environment_interval([interval.estimate]), shared=False, grouped=units < n, changed=(),
            )  # fmt: skip
