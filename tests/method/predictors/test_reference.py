"""Predictors and protocol against short NumPy and scikit-learn code, on a small benchmark."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmark.method.arrays import Normalize, scaled, unit
from benchmark.method.evaluation.cells import cells_of, one_of
from benchmark.method.evaluation.curves import RankCurve
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import CHOICE, IN, OUT, Split, TestSplit
from benchmark.method.predictors import Predictor
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.method.subspace.invariant import ICM
from tests.method.wrapped import Wrapped

ENVIRONMENTS, CLASSES, D = 4, 3, 10
RANKS = (2, 5, D)
PROBE, PLAIN = LinearProbe(C=0.316, penalty="absolute"), Split(0)
Views = dict[str, np.ndarray]


def synthetic(seed: int = 0, grouped: bool = False) -> tuple[Embedded, Views]:
    """Embeddings with a class part and an environment part; an intervention moves the environment part."""
    rng = np.random.default_rng(seed)
    n = 60 * ENVIRONMENTS
    environment, label = np.repeat(np.arange(ENVIRONMENTS), 60), rng.integers(CLASSES, size=n)
    classes, styles = rng.standard_normal((CLASSES, D)), rng.standard_normal((ENVIRONMENTS, D))
    z = classes[label] + styles[environment] + 0.8 * rng.standard_normal((n, D))
    views = {name: z + rng.standard_normal((n, 2)) @ styles[:2] for name in ("a", "b")}
    text = unit(classes + 0.5 * rng.standard_normal((CLASSES, D))).astype(np.float32)
    of_split = rng.choice([IN, OUT, CHOICE], size=n, p=[0.7, 0.15, 0.15] if grouped else [0.8, 0.2, 0])
    data = Embedded(
        z=z.astype(np.float32), environment=environment, label=label, text=text,
        side={Split(0): of_split, Split(0, folds=5): rng.integers(5, size=n)},
        environments=["amber", "blue", "cyan", "dun"], classes=["x", "y", "z"], group=np.arange(n) if grouped else None,
    )  # fmt: skip
    return data, {name: view.astype(np.float32) for name, view in views.items()}


def protocol_of(
    data: Embedded, views: Views, normalize: Normalize = "none", split: Split = PLAIN, fold: int | None = None
) -> Evaluation:
    scaled_views = {kind: scaled(view, normalize) for kind, view in views.items()}
    cells = cells_of(data.layout(split), scaled(data.z, normalize), scaled_views)
    return Evaluation(data, cells, FitSettings(split, normalize, fold))


def reference(data: Embedded, views: Views, train: np.ndarray, k: int, test: np.ndarray, probe: bool) -> float:
    """Accuracy on `test` of CLIP-ICM with lambda 2 fitted on `train`, written straight from the paper."""
    z = data.z.astype(np.float64)
    d = np.concatenate([z - view for view in views.values()])[np.tile(train, 2)]
    m = z[train].T @ z[train] / train.sum() - 2.0 * d.T @ d / len(d)
    a = np.linalg.eigh(m)[1][:, ::-1][:, :k].T
    if probe:
        model = LogisticRegression(C=0.316, max_iter=1000).fit(z[train] @ a.T, data.label[train])
        return float(model.score(z[test] @ a.T, data.label[test]))
    scores = (z[test] @ a.T) @ unit(data.text @ a.T).T
    return float((scores.argmax(axis=1) == data.label[test]).mean())


def icm(moments: SourceMoments) -> Basis:
    return ICM(lambda_=2.0).fit(moments)


def plain(moments: SourceMoments) -> Basis:
    return Basis(np.eye(moments.dim))


def curves_of(
    evaluation: Evaluation, fit: Callable[[SourceMoments], Basis], predictor: Predictor, names: list[str],
    splits: list[TestSplit], ranks: tuple[int, ...] = RANKS, protocol: str = "held_out",
) -> list[RankCurve]:  # fmt: skip
    holdouts = PROTOCOLS.create(protocol).holdouts(names, splits)
    return list(evaluation.curves(Method(Wrapped(fit), predictor, ranks), holdouts))


@pytest.mark.parametrize("predictor", [ZeroShot(), PROBE])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_accuracy_equals_the_reference(predictor, grouped) -> None:  # type: ignore[no-untyped-def]
    data, views = synthetic(grouped=grouped)
    probe = isinstance(predictor, LinearProbe)
    side = data.side[Split(0)]
    validation, lodo_rows = (side == CHOICE, side == CHOICE) if grouped else (side == OUT, side == IN)
    splits: list[TestSplit] = ["out_20", "in_80", "full"]
    curves = curves_of(protocol_of(data, views), icm, predictor, data.environments, splits)
    assert [(c.held_out, c.test_split) for c in curves] == [(e, s) for e in data.environments for s in splits]
    for h in range(ENVIRONMENTS):
        by_split = {c.test_split: c for c in curves if c.held_out == data.environments[h]}
        curve = by_split["full"]
        here = data.environment == h
        sources = [s for s in range(ENVIRONMENTS) if s != h]
        train = (side == IN) & ~here
        for i, k in enumerate(RANKS):
            for split, rows in (("out_20", side == OUT), ("in_80", side == IN), ("full", here)):
                expected = reference(data, views, train, k, here & rows, probe)
                assert by_split[split].metrics["target"][i] == pytest.approx(expected, abs=1e-12)  # type: ignore[index]
            domain = [reference(data, views, train, k, (data.environment == s) & validation, probe) for s in sources]
            assert curve.training_domain[i] == pytest.approx(np.mean(domain), abs=1e-12)
            lodo = [
                reference(data, views, train & (data.environment != s), k, (data.environment == s) & lodo_rows, probe)
                for s in sources
            ]
            assert curve.lodo is not None
            # A probe that only serves the choice is solved to 1e-7 in single precision, which may move one image.
            one_image = 1 / (len(sources) * min(((data.environment == s) & lodo_rows).sum() for s in sources))
            assert curve.lodo[i] == pytest.approx(np.mean(lodo), abs=1e-12 + probe * one_image)
            expected = reference(data, views, train, k, here & (side == OUT), probe)
            assert by_split["in_80"].target_out is not None
            assert by_split["in_80"].target_out[i] == pytest.approx(expected, abs=1e-12)
        assert curve.n_train == train.sum()
        assert curve.labels_fit == (train.sum() if probe else 0)
        assert curve.labels_choice == ((validation | lodo_rows) & ~here).sum()
        assert by_split["out_20"].target_out is by_split["full"].target_out is None


@pytest.mark.parametrize("predictor", [ZeroShot(), PROBE])
@pytest.mark.parametrize("fold", [0, 4])
def test_with_folds_neither_the_tested_fold_nor_the_next_is_in_the_fit_that_chooses(predictor, fold) -> None:  # type: ignore[no-untyped-def]
    data, views = synthetic()
    split, following, probe = Split(0, folds=5), (fold + 1) % 5, isinstance(predictor, LinearProbe)
    side = data.side[split]
    evaluation = protocol_of(data, views, split=split, fold=fold)
    curves = curves_of(evaluation, icm, predictor, data.environments, ["out_fold"])
    for h, curve in enumerate(curves):
        here, sources = data.environment == h, [s for s in range(ENVIRONMENTS) if s != h]
        chosen, fitted = ~np.isin(side, [fold, following]) & ~here, (side != fold) & ~here
        for i, k in enumerate(RANKS):
            expected = reference(data, views, fitted, k, here & (side == fold), probe)
            assert curve.metrics["target"][i] == pytest.approx(expected, abs=1e-12)
            validation = [(data.environment == s) & (side == following) for s in sources]
            domain = [reference(data, views, chosen, k, rows, probe) for rows in validation]
            assert curve.training_domain[i] == pytest.approx(np.mean(domain), abs=1e-12)
            lodo = [
                reference(data, views, chosen & (data.environment != s), k, rows, probe)
                for s, rows in zip(sources, validation, strict=True)
            ]
            assert curve.lodo is not None
            assert curve.lodo[i] == pytest.approx(np.mean(lodo), abs=1e-12)
        assert (curve.n_train, curve.test_split) == (fitted.sum(), "out_fold")
        assert curve.tested.position.tolist() == np.flatnonzero(here & (side == fold)).tolist()


@pytest.mark.parametrize("fold", [None, 2])
def test_in_domain_fits_on_other_images_of_the_tested_environment(fold: int | None) -> None:
    data, views = synthetic()
    split = Split(0) if fold is None else Split(0, folds=5)
    side, asked = data.side[split], "out_20" if fold is None else "out_fold"
    evaluation = protocol_of(data, views, split=split, fold=fold)
    curves = curves_of(evaluation, icm, PROBE, data.environments, [asked], protocol="in_domain")  # type: ignore[list-item]
    for h, curve in enumerate(curves):
        here = data.environment == h
        fitted, tested = (side == IN, side == OUT) if fold is None else (side != 2, side == 2)
        expected = [reference(data, views, here & fitted, k, here & tested, True) for k in RANKS]
        assert curve.metrics["target"] == pytest.approx(expected, abs=1e-12)
        assert curve.lodo is None
        scores = [
            reference(data, views, here & ~np.isin(side, [2, 3]), k, here & (side == 3), True)
            for k in (RANKS if fold is not None else ())
        ]
        assert np.isnan(curve.training_domain).all() if fold is None else curve.training_domain == pytest.approx(scores)


def test_nothing_of_the_held_out_environment_reaches_fit_or_selection() -> None:
    data, views = synthetic()
    noise = data.z.copy()
    noise[data.environment == 1] = np.random.default_rng(9).standard_normal((60, D))
    both = data, replace(data, z=noise)
    clean, poisoned = (curves_of(protocol_of(d, views), icm, PROBE, d.environments, ["full"])[1] for d in both)
    for name in ("training_domain", "lodo", "spectrum"):
        assert getattr(clean, name) == getattr(poisoned, name)
    assert clean.metrics["target"] != poisoned.metrics["target"]


def test_two_environments_have_no_lodo() -> None:
    data, _ = synthetic()
    keep = data.environment < 2
    two = replace(
        data, z=data.z[keep], environment=data.environment[keep], label=data.label[keep],
        side={Split(0): data.side[Split(0)][keep]}, environments=["amber", "blue"],
    )  # fmt: skip
    curves = curves_of(protocol_of(two, {}), plain, ZeroShot(), two.environments, ["full"], (D,))
    assert [curve.lodo for curve in curves] == [None, None]


def test_normalising_before_and_after_are_what_they_say() -> None:
    data, _ = synthetic()
    of_unit_length = replace(data, z=data.z / np.linalg.norm(data.z, axis=1, keepdims=True))
    cases: list[tuple[Embedded, Normalize]] = [(data, "before"), (of_unit_length, "none"), (data, "after")]
    before, by_hand, after = (
        curves_of(protocol_of(d, {}, n), plain, PROBE, d.environments, ["full"], (D,)) for d, n in cases
    )
    for x, y, z in zip(before, by_hand, after, strict=True):
        # At full rank in the given coordinates, unit length before and after are the same thing.
        assert x.metrics["target"] == y.metrics["target"] == z.metrics["target"]


def test_random_one_draws_one_kind_per_image_by_seed_and_id_alone() -> None:
    data, views = synthetic()
    ids = [f"image-{i}" for i in range(len(data.z))]
    drawn = one_of(views, ids, seed=0)
    is_a, is_b = (np.all(drawn == views[k], axis=1) for k in ("a", "b"))
    assert (is_a ^ is_b).all()
    assert 0.35 < is_a.mean() < 0.65
    backwards = one_of({k: v[::-1] for k, v in views.items()}, ids[::-1], seed=0)
    np.testing.assert_array_equal(backwards[::-1], drawn)
    assert (one_of(views, ids, seed=1) != drawn).any()
