"""How much work a trial is, in floating-point operations, and what trials took: what `plan` scales measured seconds by.

Counts are off by a factor that is about the same for all trials of one predictor: it cancels where a measurement of
that predictor is scaled. Measurements are kept with the counts of their time: after a formula changes, estimates from
earlier ones are worse until a run measures again.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmark.method.evaluation.cells import HALVES
from benchmark.method.evaluation.fits import Halves, Sides, Sources, blocks_by_fit, cases_of, turns_of
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.splits import IN, IN_FOLDS, OUT
from benchmark.store.costs import Cost
from benchmark.sweep.trials import Trial, TrialSpec

# Kinds of cost beside those of trials, and what their work is counted in: operations (`summing_work`), 1 for the start
# of a sweep, and the number of trials between which time passes.
MOMENTS, FIRST_TRIAL, BETWEEN = ("moments",), ("first trial",), ("between trials",)

_EIGH = 20.0  # times D^3: one eigendecomposition, as long as so many operations of matrix products
_EVALUATIONS = 25.0  # of an objective, for each fit: of a logistic regression at C = 31.6 ...
_MORE = 1.8  # ... and so many times as many for each ten times C
_CALL = 4e7  # what an evaluation takes, however small it is
_SUM = 1e11  # summing moments, however few the images are
_BEST = 50.0  # operations that finding the best class of an image at one rank amounts to, for each class
# Where rules choose on a sample of the images, the points that they pick are fitted again on all: how many each holdout
# has, at full rank or, where a trial of the plain space fits that, at the rank below it.
_FULL, _FULL_BELOW = 3.0, 1.5


@dataclass(frozen=True)
class Size:
    """What the work of a trial depends on beside its spec.

    Attributes:
        images: environment -> number of images; whole data sets where a protocol is across sets.
        dim: embedding width D.
    """

    images: Mapping[str, int]
    classes: int
    dim: int


@dataclass(frozen=True)
class Ran:
    """A trial that ran.

    Attributes:
        began: time of day (seconds since 1970) when its worker began it.
        seconds: that it took.
    """

    trial: Trial
    began: float
    seconds: float


def size_of(trial: Trial) -> Size:
    """Return what the work of a trial depends on beside its spec."""
    manifest = trial.subject.manifest
    if trial.spec.protocol.across_sets:
        images = {s.manifest.name: s.manifest.table.num_rows for s in (trial.subject, *trial.variants)}
    else:
        images = trial.clusters.sizes(manifest.counts) if trial.clusters else manifest.counts
    return Size(images, len(manifest.classes), trial.subject.facts.dim)


def costs_of(ran: Sequence[Ran], began: float, slots: int) -> list[Cost]:
    """Return what trials took, in the mean of those that are alike, and what lay before and between them."""
    if not ran:
        return []
    alike: dict[tuple[tuple[str, ...], float], list[Ran]] = {}
    for one, work in zip(ran, works_of([one.trial for one in ran]), strict=True):
        alike.setdefault((kind_of(one.trial.spec), work), []).append(one)
    first = max(0.0, min(one.began for one in ran) - began)
    ended = max(one.began + one.seconds for one in ran)  # of a sweep that was ended early, others were under way
    between = ended - began - first - sum(one.seconds for one in ran) / slots
    return [
        Cost(FIRST_TRIAL, 1.0, first),
        Cost(BETWEEN, len(ran), between),
        *(Cost(kind, work, sum(r.seconds for r in of_kind) / len(of_kind)) for (kind, work), of_kind in alike.items()),
    ]


def works_of(trials: Iterable[Trial]) -> list[float]:
    """Return `work_of` each of some trials; what trials share is counted only once."""
    sizes: dict[tuple[object, ...], Size] = {}
    works = []
    for trial in trials:
        seen = trial.subject.key, trial.clusters, trial.spec.protocol.across_sets
        if seen not in sizes:
            sizes[seen] = size_of(trial)
        works.append(work_of(trial.spec, sizes[seen]))
    return works


def summing_work(images: int, views: int, dim: int) -> float:
    """Return the operations of summing the moments of images that have so many views, of width D."""
    return _SUM + 2.0 * images * views * dim**2


def kind_of(spec: TrialSpec) -> tuple[str, ...]:
    """Return the kind of a trial's cost, from the general to the particular, see `store.costs`."""
    predictor, projection = spec.predictor, spec.projection
    return ("trial", predictor.name, projection.name, predictor.label, projection.label, spec.protocol.name)


def work_of(spec: TrialSpec, size: Size) -> float:
    """Return about how many operations a trial is; 0 where it makes no rows."""
    lambdas, holdouts = max(1, len(spec.lambdas)), spec.holdouts(list(size.images))
    draws = spec.intervention_set.draws if spec.intervention_set else 1
    settings = sum(any(len(h.sources) >= s.min_sources for h in holdouts) for s in spec.settings)
    each = sum(_of_fit(spec, size, fitted, scored) for fitted, scored in _fits(spec, size, holdouts))
    return settings * draws * (lambdas * each + _full(spec, size, holdouts))


def _fits(spec: TrialSpec, size: Size, holdouts: list[Holdout]) -> list[tuple[float, float]]:
    """Return on how many images each fit of one lambda and setting is made, and on how many it is scored.

    One that serves several holdouts or folds is there once.
    """
    some, names, most_validated = spec.sampled(size.images.values()), list(size.images), spec.selection_images

    def images(environment: int, sides: Sides, halves: Halves, most: float | None = None) -> float:
        count = (len(halves) / len(HALVES)) * _share(spec, sides) * size.images[names[environment]]
        return min(count, (most or math.inf) * (len(sides) if spec.folds else IN_FOLDS if IN in sides else 1))

    fits: dict[Sources, float] = {}
    tested: dict[Sources, float] = {}
    for case in cases_of(holdouts, spec.split, grouped=False, fold=spec.fold):
        for test in case.holdout.tests:
            sides = case.turn.tested[test.split]
            scored = sum(images(e, sides, HALVES) for e in test.environments)
            tested[case.tested] = max(tested.get(case.tested, 0.0), scored)
        for fit, blocks in blocks_by_fit((*case.training_domain, *case.lodo)).items():
            scored = sum(images(b.environments[0], b.sides, b.halves, most_validated) for b in blocks)
            fits[fit] = fits.get(fit, 0.0) + scored
    for fit, scored in tested.items():
        fits[fit] = fits.get(fit, 0.0) + scored
    fitted = [sum(images(e, fit.sides, fit.halves, some) for e in fit.environments) for fit in fits]
    return list(zip(fitted, fits.values(), strict=True))


def _full(spec: TrialSpec, size: Size, holdouts: list[Holdout]) -> float:
    """Return the operations of the refits on all images; 0 where no fit uses a sample."""
    if spec.sampled(size.images.values()) is None:
        return 0.0
    names = list(size.images)
    fitted = sum(
        size.images[names[s]] * _share(spec, turn.fitted)
        for turn in turns_of(spec.split, False, spec.fold).values()
        for holdout in holdouts
        for s in holdout.sources
    )
    alone = len(spec.ranks) == 1 or not spec.predictor.turns  # else a trial of the plain space fits full rank
    points = _FULL * spec.ranks[-1] if alone else _FULL_BELOW * spec.ranks[-2]
    return 4 * _EVALUATIONS * points * fitted * size.classes


def _of_fit(spec: TrialSpec, size: Size, fitted: float, scored: float) -> float:
    """Return the operations of one fit and its scores."""
    predictor = spec.predictor
    basis = 0.0 if spec.projection.name == "identity" else _EIGH * size.dim**3
    if not predictor.uses_training_images:
        dots = size.dim + _BEST * len(spec.ranks)
        return basis + 2 * scored * size.classes * dots * len(predictor.settings)
    count, ranks = len(predictor.settings), sum(spec.ranks)
    # How often a fit looks at all its images: the less it is penalised, the longer it goes on.
    penalties = (getattr(setting, "C", None) for setting in predictor.settings)
    evaluations = sum(_EVALUATIONS * (_MORE ** math.log10(c[0] / 31.6) if c else 1.0) for c in penalties)
    of_fits = evaluations * (4 * fitted * size.classes * ranks + _CALL * len(spec.ranks))
    return float(basis + of_fits + 2 * count * scored * size.classes * ranks)


def _share(spec: TrialSpec, sides: Sides) -> float:
    """Return the share of images that lie on some sides; the grouped choice side is part of the out-split."""
    if spec.folds:
        return len(sides) / spec.folds
    return 0.8 * (IN in sides) + 0.2 * (OUT in sides)
