"""Estimated work of a trial in floating-point operations, and measured costs, which `plan` scales by work.

Estimates are off by a nearly constant factor for each predictor. The factor cancels if a measurement of the same
predictor is scaled. A measurement is stored with the estimate of its time. So after a change of a formula, plans are
less accurate until a run measures again. Estimates are also in `benchmark/store/reference_costs.json`, which
`tests/performance/reference_costs.py` writes, and in batches (`batches.py`).
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

# Kinds of cost besides trials. Their units of work are operations (`summing_work`), 1 for the start of a sweep, and the
# number of trials for the time between trials.
MOMENTS, FIRST_TRIAL, BETWEEN = ("moments",), ("first trial",), ("between trials",)

_EIGH = 20.0  # x D^3: an eigendecomposition takes as long as so many operations of matrix products
_EVALUATIONS = 25.0  # evaluations of the objective per fit of a logistic regression at C = 31.6 ...
_MORE = 1.8  # ... times this factor for each tenfold C
_CALL = 4e7  # fixed operations of an evaluation
_SUM = 1e11  # fixed operations of summing moments
_BEST = 50.0  # operations per class of finding the best class of an image at one rank
# If rules select on a subsample, selected points are refitted on all images. Number of such points per holdout, all at
# full rank; or, if a trial of plain prediction fits full rank, all at the rank below it.
_FULL, _FULL_BELOW = 3.0, 1.5


@dataclass(frozen=True)
class Size:
    """The size of a trial's data.

    Attributes:
        images: environment -> number of images; for a protocol across data sets, data set -> number of images.
        classes: number of classes.
        dim: embedding width D.
    """

    images: Mapping[str, int]
    classes: int
    dim: int


@dataclass(frozen=True)
class Ran:
    """A finished trial and its duration.

    Attributes:
        began: start as Unix time, in seconds.
        seconds: duration of the trial.
    """

    trial: Trial
    began: float
    seconds: float


def size_of(trial: Trial) -> Size:
    """Return the size of a trial's data."""
    manifest = trial.subject.manifest
    if trial.spec.protocol.across_sets:
        images = {s.manifest.name: s.manifest.table.num_rows for s in (trial.subject, *trial.variants)}
    else:
        images = trial.clusters.sizes(manifest.counts) if trial.clusters else manifest.counts
    return Size(images, len(manifest.classes), trial.subject.facts.dim)


def costs_of(ran: Sequence[Ran], began: float, slots: int) -> list[Cost]:
    """Return three kinds of costs, in seconds.

    They are the mean time of each group of similar trials, the time before the first trial, and that between trials.
    """
    if not ran:
        return []
    alike: dict[tuple[tuple[str, ...], float], list[Ran]] = {}
    for one, work in zip(ran, works_of([one.trial for one in ran]), strict=True):
        alike.setdefault((kind_of(one.trial.spec), work), []).append(one)
    first = max(0.0, min(one.began for one in ran) - began)
    ended = max(one.began + one.seconds for one in ran)  # if interrupted, other trials may be running
    between = max(1e-3, ended - began - first - sum(one.seconds for one in ran) / slots)
    return [
        Cost(FIRST_TRIAL, 1.0, first),
        Cost(BETWEEN, len(ran), between),
        *(Cost(kind, work, sum(r.seconds for r in of_kind) / len(of_kind)) for (kind, work), of_kind in alike.items()),
    ]


def works_of(trials: Iterable[Trial]) -> list[float]:
    """Return `work_of` for each trial. Sizes are determined once per subject."""
    sizes: dict[tuple[object, ...], Size] = {}
    works = []
    for trial in trials:
        seen = trial.subject.key, trial.clusters, trial.spec.protocol.across_sets
        if seen not in sizes:
            sizes[seen] = size_of(trial)
        works.append(work_of(trial.spec, sizes[seen]))
    return works


def summing_work(images: int, views: int, dim: int) -> float:
    """Return the operations of summing moments over `images` images with `views` views each, at width `dim`."""
    return _SUM + 2.0 * images * views * dim**2


def kind_of(spec: TrialSpec) -> tuple[str, ...]:
    """Return the kind of a trial's cost as words from general to specific, see `store.costs`."""
    predictor, projection = spec.predictor, spec.projection
    return ("trial", predictor.name, projection.name, predictor.label, projection.label, spec.protocol.name)


def work_of(spec: TrialSpec, size: Size) -> float:
    """Return the approximate operations of a trial; 0 if it has no rows."""
    lambdas, holdouts = max(1, len(spec.lambdas)), spec.holdouts(list(size.images))
    draws = spec.intervention_set.draws if spec.intervention_set else 1
    settings = sum(any(len(h.sources) >= s.min_sources for h in holdouts) for s in spec.settings)
    each = sum(_of_fit(spec, size, fitted, scored) for fitted, scored in _fits(spec, size, holdouts))
    return settings * draws * (lambdas * each + _full(spec, size, holdouts))


def _fits(spec: TrialSpec, size: Size, holdouts: list[Holdout]) -> list[tuple[float, float]]:
    """Return (number of fitted images, number of scored images) for each distinct fit of one lambda and setting."""
    some, names, most_validated = spec.sampled(size.images.values()), list(size.images), spec.selection_images

    def images(environment: int, sides: Sides, halves: Halves, most: float | None = None) -> float:
        count = (len(halves) / len(HALVES)) * _share(spec, sides) * size.images[names[environment]]
        return min(count, (most or math.inf) * (len(sides) if spec.folds else IN_FOLDS if IN in sides else 1))

    fits: dict[Sources, float] = {}
    tested: dict[Sources, float] = {}
    for case in cases_of(holdouts, spec.split, False, spec.fold, train_share=spec.train_share):
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
    """Return the operations of the refits on all images; 0 if no fit uses a subsample."""
    if spec.sampled(size.images.values()) is None:
        return 0.0
    names = list(size.images)
    fitted = sum(
        size.images[names[s]] * _share(spec, turn.fitted)
        for turn in turns_of(spec.split, False, spec.fold, spec.train_share).values()
        for holdout in holdouts
        for s in holdout.sources
    )
    alone = len(spec.ranks) == 1 or not spec.predictor.turns  # otherwise a trial of plain prediction fits full rank
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
    # Passes over all images per fit, of which a weaker penalty needs more.
    penalties = (getattr(setting, "C", None) for setting in predictor.settings)
    evaluations = sum(_EVALUATIONS * (_MORE ** math.log10(c[0] / 31.6) if c else 1.0) for c in penalties)
    of_fits = evaluations * (4 * fitted * size.classes * ranks + _CALL * len(spec.ranks))
    return float(basis + of_fits + 2 * count * scored * size.classes * ranks)


def _share(spec: TrialSpec, sides: Sides) -> float:
    """Return the share of images on `sides`. Groups are ignored: with them, the out-split also has the side CHOICE."""
    if spec.folds:
        return len(sides) / spec.folds
    return 0.8 * (IN in sides) + 0.2 * (OUT in sides)
