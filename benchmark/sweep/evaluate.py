"""Evaluates a trial: computes its result rows. A new column also goes into the schema in `benchmark/store/rows.py`.

If what a trial computes changes, change its estimated work in `benchmark/sweep/work.py` too.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.common.plain import canonical_hash
from benchmark.common.registry import presented
from benchmark.method.arrays import Array, Labels, Normalize, scaled
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.curves import Predictions
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method, Plain
from benchmark.method.evaluation.metrics import SCORED
from benchmark.method.evaluation.selection import KEY, SCORES, picked_by_sources, picks_of
from benchmark.method.evaluation.splits import base_classes
from benchmark.method.evaluation.tested import Tested
from benchmark.method.subspace import Basis
from benchmark.method.subspace.diagnostics import Decodability, decodability
from benchmark.method.subspace.moments import Placebo
from benchmark.method.subspace.placebos import Borrowed, Matched, Rotated, Shuffled
from benchmark.store.rows import curve_columns, prediction_columns
from benchmark.sweep.identity import code_version
from benchmark.sweep.trials import Trial

Row = dict[str, object]
MAX_READ = 5_000  # number of images for the decodability of the environment
READ_FOLDS = 2  # folds of its cross-validation; five, as in `diagnose`, would take longer than the trials


@dataclass(frozen=True)
class Evaluated:
    """Result of a trial.

    Attributes:
        rows: one row per lambda, holdout, test split, half of the classes and setting. For a placebo with several
            draws, only the rows that a source rule selects in each draw.
        tested: the distinct sets of test images that rows refer to.
    """

    rows: list[Row]
    tested: list[Tested]


@dataclass(frozen=True)
class Inputs:
    """The inputs of `evaluate` besides the trial.

    Attributes:
        data: embeddings of the trial's data set. For a protocol across data sets, also embeddings of the shifted
            variants.
        cells: moments of the same embeddings.
        lent: C_d of another data set for a `borrowed` placebo, shape (D, D); None (default) for other trials.
        plain: cached results of plain prediction from earlier trials of this process; None (default): no cache.
    """

    data: Embedded
    cells: Cells
    lent: Array | None = None
    plain: Plain | None = None


def evaluate(trial: Trial, inputs: Inputs, device: str = "cpu") -> Evaluated:
    """Return the result rows of a trial. `device` is the torch device of predictors that torch trains."""
    spec, chosen = trial.spec, trial.spec.intervention_set
    data, cells = inputs.data, inputs.cells
    settings = FitSettings(
        spec.split,
        spec.normalize,
        spec.fold,
        spec.seed,
        device,
        selection_images=spec.selection_images,
        metric=spec.metric,
        train_share=spec.train_share,
    )
    evaluation = Evaluation(data, cells, settings, inputs.plain)
    common = {**common_columns(trial), "classes": data.classes}
    tested: dict[str, Tested] = {}
    rows: list[Row] = []
    for draw, placebo in placebos_of(trial, inputs.lent):
        common["placebo_draw"] = draw
        made = _rows(trial, evaluation, placebo, common, tested)
        every = [one.row for one in made]
        if chosen and chosen.numbered:
            rows += [every[i] for i in picked_by_sources(every)]
            continue
        for position, places in answered(every).items():
            there = made[position].predictions
            if kept := {index: there[index] for index in sorted(places & there.keys())}:
                every[position] |= prediction_columns(kept, spec.ranks)
        if spec.reads_environments and not any(common[n] for n in ("projection_variant", "placebo", "pairs_share")):
            _read_environments(trial, evaluation, data, made)
        rows += every
    return Evaluated(rows, list(tested.values()))


def _read_environments(trial: Trial, evaluation: Evaluation, data: Embedded, made: Sequence["_Made"]) -> None:
    """Add the decodability of the environment to the rows that one source rule selects.

    It is the last rule of `SCORES` that has scores. With folds, only rows of the first fold get the columns.
    """
    made = [one for one in made if one.row["fold"] in (-1, 0)]
    readable, holdouts = Readable(data, trial.spec.normalize), {h.name: h for h in trial.holdouts}
    picks = next((found for rule in reversed(SCORES) if (found := picks_of([o.row for o in made], rule))), {})
    if not readable.has_several:
        return
    known: dict[tuple[object, ...], float] = {}
    for position, index in picks.values():
        one, rank = made[position], trial.spec.ranks[index]
        key = one.row["held_out"], repr(one.method.projection), rank
        if key not in known:
            basis = evaluation.basis_of(holdouts[str(one.row["held_out"])], one.method)
            known[key] = readable.after(basis, rank).balanced_accuracy
        before = readable.before
        one.row.update(read_ranks=[rank], read_after=[known[key]])
        one.row.update(read_before=before.balanced_accuracy, read_chance=before.chance)


@dataclass(frozen=True)
class _Made:
    """A row and what is needed to complete it.

    Attributes:
        row: columns of the row so far.
        method: the fitted method.
        predictions: see `RankCurve.predictions`.
    """

    row: Row
    method: Method
    predictions: Mapping[int, Predictions]


def answered(rows: Sequence[Row]) -> dict[int, set[int]]:
    """Return position of a row -> indices of the ranks at which the row keeps its predictions.

    Source rules select these ranks among three kinds of rows: all rows; the rows of each setting of the projection,
    such as one nuisance; and the rows that differ only in this setting from the row that is selected among all.
    """
    parts, alike = list(_by(rows, ("projection_params",))), dict[int, list[int]]()
    for of_one in _by(rows, (*KEY, "test_split", "class_half", "lambda_", "predictor_params")):
        alike |= dict.fromkeys(of_one, of_one)
    for rule in SCORES:
        parts += [[i] for position, _ in picks_of(rows, rule).values() for i in alike[position]]
    found: dict[int, set[int]] = {}
    for part in [range(len(rows)), *parts]:
        for rule in SCORES:
            for position, index in picks_of([rows[i] for i in part], rule).values():
                found.setdefault(part[position], set()).add(index)
    return found


def _by(rows: Sequence[Row], names: Sequence[str]) -> Iterable[list[int]]:
    """Group the rows with equal values in the columns `names`, and return the positions in each group."""
    found: dict[tuple[object, ...], list[int]] = {}
    for position, row in enumerate(rows):
        found.setdefault(tuple(row[name] for name in names), []).append(position)
    return found.values()


def _rows(
    trial: Trial, evaluation: Evaluation, placebo: Placebo | None, common: Row, tested: dict[str, Tested]
) -> list[_Made]:
    """Return the rows of one placebo (None: of the real C_d), and add their test images to `tested`."""
    spec = trial.spec
    weights = trial.subject.weights_of(spec.intervention_set)
    rows: dict[float, list[_Made]] = {lambda_: [] for lambda_ in spec.lambdas}
    for setting in spec.settings:
        projections = [setting.at(lambda_=lambda_, seed=spec.seed) for lambda_ in spec.lambdas]
        settings = spec.predictor, spec.ranks, weights, placebo, (*SCORED, *spec.metrics)
        methods = [Method(p, *settings) for p in projections]
        curves = evaluation.curves_of(methods, trial.holdouts)
        if evaluation.samples(spec.predictor):
            curves = evaluation.with_full_fits(methods, curves, trial.holdouts)
        params = json.dumps({k: v for k, v in setting.params.items() if k != "order"})
        nuisance = name if isinstance(name := setting.params.get("nuisance"), str) else None
        for lambda_, method, of_method in zip(spec.lambdas, methods, curves, strict=True):
            weight = lambda_ if method.projection.uses_lambda else None
            of_projection: Row = {"projection_params": params, "nuisance": nuisance, "lambda_": weight}
            for curve in of_method:
                of_predictor = json.dumps(spec.predictor.settings[curve.setting].params)
                columns = {"predictor_params": of_predictor, **curve_columns(curve)}
                rows[lambda_].append(_Made({**common, **of_projection, **columns}, method, curve.predictions))
                tested[curve.tested.hash] = curve.tested
    # By ascending lambda: in a tie a rule selects the first row, which shrinks least.
    return [made for of_lambda in rows.values() for made in of_lambda]


def placebos_of(trial: Trial, lent: Array | None) -> Iterator[tuple[int | None, Placebo | None]]:
    """Yield (number of the draw, placebo). The number is None for a single draw, the placebo for the real C_d."""
    chosen = trial.spec.intervention_set
    if chosen is None or chosen.placebo is None:
        yield None, None
        return
    for drawn in chosen.drawn():
        draw = drawn.first if chosen.numbered else None
        if chosen.placebo == "borrowed":
            assert lent is not None
            yield draw, Borrowed(lent)
        elif chosen.placebo == "shuffled":
            yield draw, Shuffled(trial.subject.shuffled_name(drawn))
        else:
            yield draw, (Rotated if chosen.placebo == "rotated" else Matched)(drawn.seed, drawn.first)


def common_columns(trial: Trial) -> Row:
    """Return the columns that are equal in all rows of a trial."""
    spec, subject, intervention_set = trial.spec, trial.subject, trial.spec.intervention_set
    projection, predictor = spec.projection, spec.predictor
    placebo = intervention_set if intervention_set and intervention_set.placebo else None
    partial = intervention_set if intervention_set and intervention_set.pairs < 1 else None
    fingerprints = [s.manifest.fingerprint for s in (subject, *trial.variants)]
    return {
        "dataset": subject.name,
        "clusters": subject.clusters or None,
        "dataset_fingerprint": canonical_hash(fingerprints) if trial.variants else fingerprints[0],
        "grouped": subject.manifest.groups is not None and not trial.variants,  # shifted variants have no groups
        "backbone": subject.facts.label,
        "backbone_fingerprint": subject.facts.fingerprint,
        "random_weights": subject.facts.random_weights,
        "precision": subject.facts.precision,
        "prompts": json.dumps(list(subject.prompts)),
        "intervention_set": intervention_set.name if intervention_set else None,
        "interventions": trial.interventions,
        "projection": projection.name,
        "projection_variant": projection.variant or None,
        "placebo": placebo.placebo if placebo else None,
        "placebo_seed": placebo.seed if placebo else None,
        "lender": trial.lender.manifest.name if trial.lender else None,
        "pairs_share": partial.pairs if partial else None,
        "pairs_seed": partial.seed if partial else None,
        "train_share": spec.train_share if spec.train_share < 1 else None,
        **presented(projection.name, type(projection)).columns("projection"),
        "order": projection.order_name,
        "normalize": spec.normalize,
        "predictor": predictor.name,
        **presented(predictor.name, type(predictor)).columns("predictor"),
        "predictor_variant": predictor.variant or None,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
        "folds": spec.folds,
        "view_draw": trial.view_draw,
        "ranks": list(spec.ranks),
        "dim": subject.facts.dim,
        "n_classes": len(subject.manifest.classes),
        "n_base": base_classes(len(subject.manifest.classes), spec.rounding),
        "rounding": spec.rounding if spec.protocol.open_class else None,
        "n_sources": min(len(holdout.sources) for holdout in trial.holdouts),
        "n_shared": subject.manifest.shared_images,
        "images": trial.images,
        "recipe_hash": trial.recipe_hash,
        "code_version": code_version(),
    }


class Readable:
    """Sampled images for the decodability of the environment before and after a projection."""

    def __init__(self, data: Embedded, normalize: Normalize) -> None:
        environment = data.environment
        enough = np.flatnonzero(np.bincount(environment)[environment] >= READ_FOLDS)
        rows = enough[sample(environment[enough])]
        self._environment = environment[rows]
        self._group = None if data.group is None else data.group[rows]
        self._z = scaled(data.z[rows], normalize)

    @property
    def has_several(self) -> bool:
        """Whether at least two environments have enough images, or groups if images come in groups."""
        own = np.arange(len(self._z)) if self._group is None else self._group
        counts = [len(np.unique(own[self._environment == e])) for e in np.unique(self._environment)]
        return len(counts) > 1 and min(counts) >= READ_FOLDS

    @cached_property
    def before(self) -> Decodability:
        """Decodability from the embeddings before the projection."""
        return decodability(self._z, self._environment, self._group, folds=READ_FOLDS)

    def after(self, basis: Basis, rank: int) -> Decodability:
        """Return the decodability from the projected embeddings at a rank."""
        if rank == self._z.shape[1] and basis.is_rotation:
            return self.before
        return decodability(basis.of_images(self._z)[:, :rank], self._environment, self._group, folds=READ_FOLDS)


def sample(environment: Labels) -> Labels:
    """Return up to `MAX_READ` positions of images, ascending, drawn evenly over environments with a fixed seed."""
    members = [np.flatnonzero(environment == e) for e in np.unique(environment)]
    rng, left, drawn = np.random.default_rng(0), MAX_READ, []
    for number, rows in enumerate(sorted(members, key=len)):  # what small environments lack goes to larger ones
        drawn.append(rng.choice(rows, min(len(rows), left // (len(members) - number)), replace=False))
        left -= len(drawn[-1])
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)
