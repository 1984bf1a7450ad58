"""Protocols against NumPy and scikit-learn, and with poisoned data that no fit and no rule may use."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from sklearn.linear_model import LogisticRegression

from benchmark.method.arrays import Array, Normalize, scaled
from benchmark.method.evaluation import metrics
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.curves import RankCurve
from benchmark.method.evaluation.embedded import Embedded, Stacked, shifted
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import IN, OUT, Split, TestSplit
from benchmark.method.predictors import PREDICTORS, Predictor
from benchmark.method.predictors.base import Problem, fitted_temperature
from benchmark.method.prompts import Prompt
from benchmark.method.subspace import PROJECTIONS, Basis, Projection, SourceMoments
from tests.method.prompted import prompted
from tests.method.wrapped import Wrapped

NAMES, CLASSES, D, EACH = ["amber", "blue", "cyan", "dun"], 5, 8, 60
RANKS = (3, D)
LAMBDA = 2.0
Views = dict[str, np.ndarray]
NORMALIZE: Normalize = "before"


def synthetic(seed: int = 0) -> tuple[Embedded, Views]:
    rng = np.random.default_rng(seed)
    n = EACH * len(NAMES)
    environment, label = np.repeat(np.arange(len(NAMES)), EACH), np.tile(np.arange(CLASSES), n // CLASSES)
    classes, styles = rng.standard_normal((CLASSES, D)), rng.standard_normal((len(NAMES), D))
    z = classes[label] + styles[environment] + 0.9 * rng.standard_normal((n, D))
    view = z + rng.standard_normal((n, 2)) @ styles[:2]
    text = classes + 0.5 * rng.standard_normal((CLASSES, D))
    side = {split: np.where(rng.random(n) < 0.25, OUT, IN) for split in (Split(0), Split(0, True, "floor"))}
    side |= {replace(split, folds=5): np.random.default_rng(7).integers(5, size=n) for split in side}
    data = Embedded(
        z=z.astype(np.float32), environment=environment, label=label, side=side, text=unit(text).astype(np.float32),
        environments=NAMES, classes=["a", "b", "c", "d", "e"],
    )  # fmt: skip
    return data, {"view": view.astype(np.float32)}


def split_of(protocol: str, fold: int | None = None) -> Split:
    split = Split(0, True, "floor") if protocol == "held_out_open_class" else Split(0)
    return split if fold is None else replace(split, folds=5)


def curves_of(
    data: Embedded, views: Views, protocol: str, predictor: Any, fitted: dict[str, Any] | None = None,
    fold: int | None = None, projection: Projection | None = None, hidden: Callable[[Prompt], bool] = lambda _: False,
) -> list[RankCurve]:  # fmt: skip
    """Rank curves, of CLIP-ICM by default; every basis, and all that a predictor is given, is noted in `fitted`.

    With a fold, those that are tested on it, while others are too.
    """
    data = replace(data, views=tuple(views.values()))
    split = split_of(protocol, fold)
    asked: list[TestSplit] = ["out_20", "full"] if fold is None else ["out_fold"]
    cells = cells_of(data.layout(split), scaled(data.z, NORMALIZE), {k: scaled(v, NORMALIZE) for k, v in views.items()})
    projection = projection or PROJECTIONS.create("icm").at(lambda_=LAMBDA)
    base = data.layout(split).base
    cells = replace(cells, prompts=prompted(projection, data.classes, data.environments, base, D, hidden))
    evaluation = Evaluation(data, cells, FitSettings(split, NORMALIZE))

    def fit(sources: SourceMoments) -> Basis:
        assert projection.looks_at_target_images or not sources.targets
        basis = projection.fit(sources)
        if fitted is not None:
            offset = np.zeros((1, D)) if basis.offset is None else basis.offset[None]
            maps = np.vstack([basis.vectors, basis.texts, offset])
            fitted.setdefault("bases", []).append((tuple(sources.environments), maps))
        return basis

    holdouts = PROTOCOLS.create(protocol).holdouts(data.environments, asked)
    wrapped = Wrapped(fit)
    object.__setattr__(wrapped, "looks_at_target_images", projection.looks_at_target_images)
    curves = evaluation.curves(Method(wrapped, Noting(predictor, fitted), RANKS), holdouts)
    return [curve for curve in curves if fold in (None, curve.fold)]


class Noting(Predictor):
    """A predictor that notes the problems it is given to fit."""

    def __init__(self, name: Any, fitted: dict[str, Any] | None) -> None:
        super().__init__()
        object.__setattr__(self, "_inner", PREDICTORS.create(name).settings[0])
        object.__setattr__(self, "_fitted", fitted)
        for fact in ("uses_training_images", "uses_views", "looks_at_target_images", "uses_c_d"):
            object.__setattr__(self, fact, getattr(PREDICTORS.create(name), fact))

    def scores(self, problem: Problem, ranks: Any) -> Any:
        """See `Predictor.scores`."""
        assert len(problem.views) == (1 if self.uses_views else 0)
        assert len(problem.test_views) == (len(problem.tests) if self.looks_at_target_images else 0)
        assert (problem.c_d is not None) == self.uses_c_d
        if self._fitted is not None:  # type: ignore[attr-defined]
            c_d = np.zeros((D, D)) if problem.c_d is None else problem.c_d
            given = (problem.train, problem.labels, problem.text, c_d, *problem.views)
            self._fitted.setdefault("problems", []).append(given)  # type: ignore[attr-defined]
        return self._inner.scores(problem, ranks)  # type: ignore[attr-defined]


def basis_of(z: Array, view: Array, rows: np.ndarray) -> Array:
    d = (z - view)[rows]
    m = z[rows].T @ z[rows] / rows.sum() - LAMBDA * d.T @ d / rows.sum()
    return np.asarray(np.linalg.eigh(m)[1][:, ::-1])


def unit(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))


def reference(
    data: Embedded, views: Views, train: np.ndarray, test: np.ndarray, k: int, probe: bool, candidates: Any = None
) -> float:
    """Accuracy on `test` of CLIP-ICM fitted on `train`, written straight from the paper."""
    z, view = unit(data.z), unit(views["view"])
    a = basis_of(z, view, train)[:, :k]
    if probe:
        model = LogisticRegression(C=0.316, max_iter=5000, tol=1e-8).fit(z[train] @ a, data.label[train])
        return float((model.predict(z[test] @ a) == data.label[test]).mean())
    scores = z[test] @ a @ unit(data.text @ a).T
    if candidates is not None:
        masked = np.full_like(scores, -np.inf)
        masked[:, candidates] = scores[:, candidates]
        scores = masked
    return float((scores.argmax(axis=1) == data.label[test]).mean())


@pytest.mark.parametrize("predictor", ["zero_shot", "linear_probe"])
@pytest.mark.parametrize("protocol", ["open_class", "held_out_open_class", "held_out_pairs"])
def test_every_accuracy_equals_the_reference(protocol: str, predictor: str) -> None:
    data, views = synthetic()
    out = data.side[split_of(protocol)] == OUT
    base = data.label < (2 if protocol == "held_out_open_class" else 3)  # five classes: half of them, rounded
    fitted = base if protocol != "held_out_pairs" else np.ones_like(base)
    # Solvers of the probe may differ on an image at the border: of 48 or more, averaged over two sources.
    close = 0.011 if (protocol, predictor) == ("held_out_pairs", "linear_probe") else 1e-12
    curves = curves_of(data, views, protocol, predictor)
    found: dict[tuple[str, str, str], RankCurve] = {(c.held_out, c.test_split, c.class_half): c for c in curves}
    held_out = list(combinations(range(4), 2 if protocol == "held_out_pairs" else 1))
    assert {key[0] for key in found} == {" + ".join(NAMES[h] for h in hs) for hs in held_out}
    for hs in held_out:
        name, here = " + ".join(NAMES[h] for h in hs), np.isin(data.environment, hs)
        sources = [s for s in range(4) if protocol == "open_class" or s not in hs]
        validation_sources = [s for s in range(4) if s not in hs]
        among = np.isin(data.environment, sources)
        train = among & ~out & fitted
        tests = {
            "open_class": [("out_20", "base", here & out & base), ("out_20", "new", here & out & ~base)],
            "held_out_open_class": [("full", "base", here & base), ("full", "new", here & ~base)],
            "held_out_pairs": [("out_20", "all", here & out), ("full", "all", here)],
        }[protocol]
        for i, k in enumerate(RANKS):
            accuracy = lambda rows, of=train, k=k: reference(data, views, of, rows, k, predictor == "linear_probe")  # noqa: E731
            for split, half, rows in tests:
                curve = found[name, split, half]
                assert curve.metrics["target"][i] == pytest.approx(accuracy(rows), abs=close)
                assert len(curve.tested) == rows.sum()
                assert curve.n_train == train.sum()
                domain = [accuracy(fitted & out & (data.environment == s)) for s in validation_sources]
                assert curve.training_domain[i] == pytest.approx(np.mean(domain), abs=close)
                if protocol == "held_out_pairs":  # of two sources none is left out
                    assert curve.lodo is None
                    continue
                lodo = [
                    accuracy(fitted & ~out & (data.environment == s), of=train & (data.environment != s))
                    for s in validation_sources
                ]
                assert curve.lodo is not None
                assert curve.lodo[i] == pytest.approx(np.mean(lodo), abs=close)
            if "class" in protocol:
                split = tests[0][0]
                b, n = (found[name, split, half].metrics["target"][i] for half in ("base", "new"))
                expected = 2 * b * n / (b + n) if b + n else 0.0
                assert found[name, split, "harmonic"].metrics["target"][i] == pytest.approx(expected)
                if predictor == "linear_probe":
                    assert n == 0


def test_an_offset_of_images_and_a_share_of_the_texts_mean_reach_the_predictor() -> None:
    data, views = synthetic()
    centring = PROJECTIONS.create("centring").at(lambda_=0.6)
    for curve in curves_of(data, views, "held_out", "zero_shot", projection=centring):
        here, out = data.environment == NAMES.index(curve.held_out), data.side[Split(0)] == OUT
        train, tested = ~here & ~out, here & out if curve.test_split == "out_20" else here
        z, text = unit(data.z), data.text.astype(np.float64)
        scores = unit(z[tested] - 0.6 * z[train].mean(axis=0)) @ unit(text - 0.6 * text.mean(axis=0)).T
        np.testing.assert_array_equal(curve.correct[-1], scores.argmax(axis=1) == data.label[tested])


def coral(z: Array, own: Array, pool: Array, ridge: float) -> Array:
    """Each image of an environment as CORAL maps it, by scipy's roots."""

    def covariance(x: Array) -> Array:
        c = np.cov(x.T, bias=True)
        return np.asarray(c + ridge * np.trace(c) / D * np.eye(D))

    a = fractional_matrix_power(covariance(pool), 0.5) @ fractional_matrix_power(covariance(own), -0.5)
    return np.asarray((z - own.mean(axis=0)) @ a.T + pool.mean(axis=0))


@pytest.mark.parametrize("name", ["own_mean", "coral"])
@pytest.mark.parametrize("predictor", ["zero_shot", "class_means"])
def test_at_test_time_every_environment_is_mapped_by_its_own_images(name: str, predictor: str) -> None:
    data, views = synthetic()
    z, text, out = unit(data.z), data.text.astype(np.float64), data.side[Split(0)] == OUT

    def answers(train: np.ndarray, tested: np.ndarray, of_tested: np.ndarray) -> np.ndarray:
        """Return correctness on `tested`, mapped by statistics of `of_tested`; sources by those of their training images."""
        sources = [train & (data.environment == e) for e in range(len(NAMES))]
        mapped = np.full_like(z, np.nan)
        for rows, own in [*((rows, rows) for rows in sources if rows.any()), (tested, of_tested)]:
            centred = z[rows] - 0.7 * (z[own].mean(axis=0) - z[train].mean(axis=0))
            mapped[rows] = centred if name == "own_mean" else coral(z[rows], z[own], z[train], 0.7)
        prototypes = text
        if predictor == "class_means":
            prototypes = np.stack([mapped[train & (data.label == c)].mean(axis=0) for c in range(CLASSES)])
        scores = unit(mapped[tested]) @ unit(prototypes).T
        return np.asarray(scores.argmax(axis=1) == data.label[tested])

    projection = PROJECTIONS.create(name).at(lambda_=0.7)
    for curve in curves_of(data, views, "held_out", predictor, projection=projection):
        here = data.environment == NAMES.index(curve.held_out)
        tested = here & out if curve.test_split == "out_20" else here
        # out_20 and full are classified by one fit: the images of both are the target's
        np.testing.assert_array_equal(curve.correct[-1], answers(~here & ~out, tested, here))
        sources = [e for e in range(4) if NAMES[e] != curve.held_out]
        left_out = [data.environment == e for e in sources]
        lodo = [answers(~here & ~out & ~s, s & ~out, s & ~out).mean() for s in left_out]
        assert curve.lodo is not None
        assert curve.lodo[-1] == pytest.approx(np.mean(lodo), abs=1e-12)
        domain = [answers(~here & ~out, s & out, ~here & ~out & s).mean() for s in left_out]
        assert curve.training_domain[-1] == pytest.approx(np.mean(domain), abs=1e-12)


def test_answers_on_a_pair_stand_environment_by_environment_whatever_the_order_of_the_images() -> None:
    data, views = synthetic()
    order = np.random.default_rng(3).permutation(len(data.label))
    side = {split: of_split[order] for split, of_split in data.side.items()}
    data = replace(data, z=data.z[order], environment=data.environment[order], label=data.label[order], side=side)
    data = replace(data, group=np.arange(len(order)) // 2)
    views = {name: view[order] for name, view in views.items()}
    curves = [c for c in curves_of(data, views, "held_out_pairs", "zero_shot") if c.test_split == "full"]
    assert len(curves) == 6
    for curve in curves:
        sizes = curve.tested.images()
        here = [data.environment == NAMES.index(name) for name in sizes]
        assert list(sizes) == curve.held_out.split(" + ")
        assert list(sizes.values()) == [rows.sum() for rows in here]
        assert curve.tested.position.tolist() == [i for rows in here for i in np.flatnonzero(rows)]
        assert curve.tested.group is not None
        assert curve.tested.group.tolist() == [i // 2 for rows in here for i in np.flatnonzero(rows)]
        train = ~np.any(here, axis=0) & (data.side[Split(0)] == IN)
        for correct, rank in zip(curve.correct, RANKS, strict=True):
            for own, rows in zip(np.split(correct, np.cumsum(list(sizes.values()))[:-1]), here, strict=True):
                assert own.mean() == pytest.approx(reference(data, views, train, rows, rank, False))


def poisoned(data: Embedded, views: Views, rows: np.ndarray) -> tuple[Embedded, Views]:
    """The same benchmark with noise in place of some images, in all their views."""
    rng = np.random.default_rng(99)
    noisy = lambda z: np.where(rows[:, None], 7 * rng.standard_normal(z.shape), z).astype(np.float32)  # noqa: E731
    return replace(data, z=noisy(data.z)), {name: noisy(view) for name, view in views.items()}


Fits = dict[str, Any]


def with_and_without_noise(
    data: Embedded, views: Views, noisy: tuple[Embedded, Views], protocol: str, predictor: Any, fold: int | None = None,
    projection: Projection | None = None, hidden: Callable[[Prompt], bool] = lambda _: False,
) -> tuple[tuple[Fits, Fits], list[tuple[RankCurve, RankCurve]]]:  # fmt: skip
    """Fits without and with noise, and the rank curves of both."""
    fits: tuple[Fits, Fits] = ({}, {})
    clean = curves_of(data, views, protocol, predictor, fits[0], fold, projection)
    noise = curves_of(*noisy, protocol, predictor, fits[1], fold, projection, hidden)
    return fits, list(zip(clean, noise, strict=True))


def assert_same_fits(one: Fits, other: Fits, without: str | None) -> None:
    """Bases are the same, bit for bit; with `without`, of those fits that leave it out."""
    assert [e for e, _ in one["bases"]] == [e for e, _ in other["bases"]]
    pairs = [(a, b) for (e, a), (_, b) in zip(one["bases"], other["bases"], strict=True) if without not in e]
    assert pairs
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine, theirs)


def assert_same_choices(mine: RankCurve, theirs: RankCurve) -> None:
    """All that selection and calibration go by is the same, bit for bit."""
    np.testing.assert_array_equal(mine.training_domain, theirs.training_domain)
    assert mine.lodo == theirs.lodo
    for name in ("training_domain_se", "lodo_se"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    assert mine.spectrum == theirs.spectrum
    assert set(mine.scored) == set(theirs.scored)
    for rule, calibration in mine.scored.items():
        assert calibration.temperature == theirs.scored[rule].temperature


SOFT = {"name": "soft_penalty", "mu": 3, "C": 0.316}
VIEWS: list[Any] = ["probe_with_views", SOFT, "mean_of_views", "zero_temperature"]


@pytest.mark.parametrize("predictor", VIEWS)
@pytest.mark.parametrize("fold", [None, 2])
def test_noise_in_place_of_the_views_of_what_is_tested_reaches_no_fit_and_only_answers_at_test_time(
    predictor: Any, fold: int | None
) -> None:
    data, views = synthetic()
    hidden = data.environment == 1 if fold is None else data.side[split_of("held_out", fold)] == fold
    noisy = data, poisoned(data, views, hidden)[1]
    fits, curves = with_and_without_noise(data, views, noisy, "held_out", predictor, fold)
    if fold is None:  # else fits of other folds are made with it
        assert_same_fits(*fits, without="blue")
    compared = [(a, b) for a, b in curves if fold is not None or a.held_out == "blue"]
    for mine, theirs in compared:
        assert_same_choices(mine, theirs)
    changed = any((a.correct != b.correct).any() for a, b in compared)
    assert changed == PREDICTORS.create(predictor).looks_at_target_images


def test_answers_from_views_and_with_a_soft_penalty_are_those_of_numpy_and_scikit_learn() -> None:
    data, views = synthetic()
    z, view, out = unit(data.z), unit(views["view"]), data.side[Split(0)] == OUT
    text = unit(data.text)
    for predictor in ("mean_of_views", "probe_with_views", SOFT):
        for curve in curves_of(data, views, "held_out", predictor):
            here = data.environment == NAMES.index(curve.held_out)
            train, tested = ~here & ~out, here & out if curve.test_split == "out_20" else here
            a, d = basis_of(z, view, train), (z - view)[train]
            x, x_do = z @ a, view @ a
            if predictor == "mean_of_views":  # at the last rank, D
                scores = unit(unit(x[tested]) + unit(x_do[tested])) @ unit(text @ a).T
                np.testing.assert_array_equal(curve.correct[-1], scores.argmax(axis=1) == data.label[tested])
                continue
            probe, weights = LogisticRegression(C=0.316, max_iter=5000, tol=1e-8), None
            rows, labels = x[train], data.label[train]
            if predictor == "probe_with_views":
                rows, labels, weights = np.vstack([rows, x_do[train]]), np.tile(labels, 2), np.full(2 * len(d), 0.5)
            else:  # the plain probe in the coordinates in which the penalty is plain
                c_d = (d @ a).T @ (d @ a)
                root = fractional_matrix_power(np.eye(D) + 3 * D / np.trace(c_d) * c_d, -0.5)
                rows, x = rows @ root, x @ root
            expected = probe.fit(rows, labels, weights).predict(x[tested]) == data.label[tested]
            assert (curve.correct[-1] != expected).mean() <= 0.02


EVERY = [*PROJECTIONS.names(), {"name": "icm", "nuisance": "both"}]
EVERY += [
    {"name": name, "sides": sides} for name in ("shrinkage", "calibrated", "centring") for sides in ("images", "texts")
]
OPEN, FEW = ["open_class", "held_out_open_class"], ["zero_shot", "linear_probe"]
HIDDEN = [
    *product(["held_out", "held_out_open_class", "held_out_pairs"], [*FEW, "class_means", "interpolation", *VIEWS],
             ["target"], [None], ["icm"]),
    *product(["open_class"], FEW, ["tested images"], [None], ["icm"]),
    *product(["held_out", *OPEN, "held_out_pairs", "in_domain"], FEW, ["fold"], [2], ["icm"]),
    *product(OPEN, [*FEW, "class_means", "tip_adapter", *VIEWS], ["new classes"], [None], ["icm"]),
    *((*case, spec) for case in (
        ("held_out", "zero_shot", "target", None), ("held_out", "class_means", "target", 2),
        ("held_out", "zero_shot", "fold", 2), ("held_out_open_class", "class_means", "target", None),
        ("open_class", "zero_shot", "new classes", None),
    ) for spec in EVERY),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "predictor", "hidden", "fold", "spec"), HIDDEN, ids=str)
def test_noise_in_place_of_what_is_hidden_changes_no_fit_and_no_choice(
    protocol: str, predictor: Any, hidden: str, fold: int | None, spec: object
) -> None:
    """A held-out environment; of open classes its out-split, which is tested; all images of a fold, or of new classes.

    Projections that look at tested images have a map of their own for these, which bases do not show, and no rule
    sees.
    """
    (data, views), first = synthetic(), 2 if protocol == "held_out_open_class" else 3  # number of the first new class
    side, target, new = data.side[split_of(protocol, fold)], data.environment == 1, data.label >= first
    rows = {"target": target, "tested images": target & (side == OUT), "fold": side == fold, "new classes": new}[hidden]
    names_it = {"target": lambda p: p.environment == 1, "new classes": lambda p: (p.label or 0) >= first}.get(
        hidden, lambda _: False
    )
    projection, noisy = PROJECTIONS.create(spec).settings[-1].at(lambda_=0.7, seed=1), poisoned(data, views, rows)
    fits, curves = with_and_without_noise(data, views, noisy, protocol, predictor, fold, projection, names_it)
    if hidden != "fold":  # with which fits of other folds are made
        assert_same_fits(*fits, without="blue" if hidden == "target" else None)
    compared = [(a, b) for a, b in curves if hidden in ("fold", "new classes") or "blue" in a.held_out.split(" + ")]
    for mine, theirs in compared:
        assert_same_choices(mine, theirs)
        if hidden == "target":  # but for what is marked as of the target
            one, other = (replace(c.spans, shift_removed_target=None, shift_moved_target=None) for c in (mine, theirs))
            assert one == other
        if hidden == "new classes" and mine.class_half == "base":
            np.testing.assert_array_equal(mine.correct, theirs.correct)
    if hidden == "new classes":
        for of_clean, of_noise in zip(*(of["problems"] for of in fits), strict=True):
            for given, other_given in zip(of_clean, of_noise, strict=True):
                np.testing.assert_array_equal(given, other_given)
            assert not np.isin(of_clean[1], data.label[new]).any()
    if hidden != "new classes" or not PREDICTORS.create(predictor).learns_classes:
        assert any((a.correct != b.correct).any() for a, b in compared)  # the poison does arrive


@pytest.mark.parametrize(("name", "named"), [("biased_prompts", True), ("roboshot", True), ("within_prompts", False)])
def test_prompts_that_name_an_environment_reach_the_fits_that_have_it_as_a_source_and_no_others(
    name: str, named: bool
) -> None:
    data, views = synthetic()
    projection, blue = PROJECTIONS.create(name).at(lambda_=0.7), lambda prompt: prompt.environment == 1
    fits, _ = with_and_without_noise(data, views, (data, views), "held_out", "zero_shot", None, projection, blue)
    for (environments, mine), (_, theirs) in zip(*(of["bases"] for of in fits), strict=True):
        assert np.array_equal(mine, theirs) == (not named or "blue" not in environments)


def test_a_shift_is_fitted_on_the_first_set_and_chooses_among_the_classes_of_each_variant() -> None:
    data, views = synthetic()
    members = [data.environment == e for e in range(3)]
    whole = [
        replace(data, z=data.z[m], environment=np.zeros(EACH, np.int64), label=data.label[m],
                side={Split(0): data.side[Split(0)][m]}, environments=["x"])
        for m in members
    ]  # fmt: skip
    few = whole[2].label >= 2  # the second variant has three of the five classes, numbered from 0 in its own set
    variant = replace(
        whole[2], z=whole[2].z[few], environment=np.zeros(few.sum(), np.int64), label=whole[2].label[few] - 2,
        side={Split(0): whole[2].side[Split(0)][few]}, classes=["c", "d", "e"],
    )  # fmt: skip
    joined = shifted(whole[0], {"v2": whole[1], "few": variant}, ("ImageNet", "v2", "few"))
    assert joined.environments == ["ImageNet", "v2", "few"]
    rows = np.concatenate([np.flatnonzero(m) for m in members[:2]] + [np.flatnonzero(members[2])[few]])
    mask = np.random.default_rng(0).random(len(rows)) < 0.5
    np.testing.assert_array_equal(joined.z[mask], data.z[rows][mask])
    np.testing.assert_array_equal(joined.z[np.flatnonzero(mask)], data.z[rows][mask])
    np.testing.assert_array_equal(joined.label, data.label[rows])
    own = {"view": views["view"][members[0]]}
    cells = cells_of(whole[0].layout(Split(0)), scaled(whole[0].z, NORMALIZE), {"view": scaled(own["view"], NORMALIZE)})
    projection = PROJECTIONS.create("icm").at(lambda_=LAMBDA)
    holdouts = PROTOCOLS.create("imagenet_shift").holdouts(joined.environments, ["out_20"])
    for name in ("zero_shot", "class_means", "linear_probe"):
        evaluation = Evaluation(joined, cells, FitSettings(Split(0), NORMALIZE))
        curves = list(evaluation.curves(Method(projection, PREDICTORS.create(name).settings[0], RANKS), holdouts))
        found = [(c.held_out, c.test_split, len(c.tested)) for c in curves]
        assert found == [("v2", "full", EACH), ("few", "full", few.sum())]
        assert all(c.lodo is None and "lodo" not in c.scored for c in curves)
        if name == "zero_shot":
            train = members[0] & (data.side[Split(0)] == IN)
            for i, k in enumerate(RANKS):
                test = np.isin(np.arange(len(data.label)), rows) & (data.environment == 2)
                expected = reference(data, views, train, test, k, False, candidates=[2, 3, 4])
                assert curves[1].metrics["target"][i] == pytest.approx(expected, abs=1e-12)
        calibration = curves[1].scored["training_domain"]
        if name == "linear_probe":  # among the variant's classes alone, at the rank that the rule picks
            rank = RANKS[int(np.argmax(curves[1].training_domain))]
            z, truth = unit(joined.z[np.arange(len(rows))]), joined.label
            train, validation = (joined.environment == 0) & (joined.side[Split(0)] == IN), joined.side[Split(0)] == OUT
            basis = projection.fit(cells.sources({0: "x"}, None)).vectors[:, :rank]
            probe = PREDICTORS.create(name).settings[curves[1].setting]
            problem = Problem(
                train=z[train] @ basis, labels=truth[train], text=joined.text @ basis,
                tests=[z[validation & (joined.environment == 0)] @ basis, z[joined.environment == 2] @ basis],
            )  # fmt: skip
            ((validated, tested),) = probe.scores(problem, [rank])
            labels = truth[joined.environment == 2] - 2
            t = fitted_temperature(validated, truth[validation & (joined.environment == 0)])
            gaps = metrics.confidence_gaps(tested[:, 2:5], labels, t)
            assert calibration.temperature == pytest.approx(t, rel=1e-3)
            assert calibration.scaled_error == pytest.approx(metrics.calibration_error(gaps, len(labels)), abs=1e-3)
        assert 0 <= (calibration.error or 0) <= 1
    with pytest.raises(ValueError, match="'z', which ImageNet lacks"):
        shifted(whole[0], {"odd": replace(variant, classes=["c", "d", "z"])}, ("ImageNet", "odd"))


def test_stacked_arrays_read_like_one() -> None:
    parts = tuple(np.random.default_rng(i).standard_normal((n, 3)).astype(np.float32) for i, n in enumerate((4, 1, 7)))
    whole = np.concatenate(parts)
    stacked = Stacked(parts)
    assert stacked.shape == whole.shape
    for rows in ([], [0], [3, 4], [4, 5, 11], range(12)):
        np.testing.assert_array_equal(stacked[np.array(rows, dtype=np.int64)], whole[list(rows)])


@pytest.mark.parametrize("name", PROTOCOLS.names())
def test_counts_and_the_places_of_new_classes(name: str) -> None:
    protocol, names = PROTOCOLS.create(name), [f"e{i}" for i in range(5)]
    holdouts = protocol.holdouts(names, ["out_20", "in_80"])
    assert len(holdouts) == len({h.name for h in holdouts})
    assert protocol.min_environments <= 3
    assert protocol.meaning
    halves = {half for half in protocol.class_halves if half != "harmonic"}
    assert protocol.test_splits(["out_fold"]) == ("out_fold",)
    for holdout in holdouts:
        assert len(holdout.tests) == len(protocol.test_splits(["out_20", "in_80"])) * len(halves)
        assert {test.half for test in holdout.tests} == halves
        if name not in ("open_class", "in_domain"):
            assert not {e for test in holdout.tests for e in test.environments} & set(holdout.sources)
        assert holdout.halves == (("base",) if "class" in name else ("base", "new"))
