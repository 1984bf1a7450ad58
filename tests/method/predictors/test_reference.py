"""Predictors and protocol against a dozen lines of NumPy and scikit-learn, on a whole small benchmark."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmark.method.arrays import Normalize, scaled
from benchmark.method.evaluation.cells import cells_of, one_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation
from benchmark.method.evaluation.protocols import PROTOCOLS, TestSplit
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors.linear_probe import LinearProbe
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.method.subspace.invariant import ICM

ENVIRONMENTS, CLASSES, D = 4, 3, 10
RANKS = (2, 5, D)
Views = dict[str, np.ndarray]


def synthetic(seed: int = 0, grouped: bool = False) -> tuple[Embedded, Views]:
    """Embeddings with a class part and an environment part; an intervention moves the environment part."""
    rng = np.random.default_rng(seed)
    n = 60 * ENVIRONMENTS
    environment, label = np.repeat(np.arange(ENVIRONMENTS), 60), rng.integers(CLASSES, size=n)
    classes, styles = rng.standard_normal((CLASSES, D)), rng.standard_normal((ENVIRONMENTS, D))
    z = classes[label] + styles[environment] + 0.8 * rng.standard_normal((n, D))
    views = {name: z + rng.standard_normal((n, 2)) @ styles[:2] for name in ("a", "b")}
    text = classes + 0.5 * rng.standard_normal((CLASSES, D))
    data = Embedded(
        z=z.astype(np.float32),
        environment=environment,
        label=label,
        out={Split(seed): rng.random(n) < 0.2 for seed in (0, 1)},
        text=(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
        environments=["amber", "blue", "cyan", "dun"],
        classes=["x", "y", "z"],
        group=np.arange(len(label)) if grouped else None,
    )
    return data, {name: view.astype(np.float32) for name, view in views.items()}


def protocol_of(data: Embedded, views: Views, normalize: Normalize = "none") -> Evaluation:
    scaled_views = {kind: scaled(view, normalize) for kind, view in views.items()}
    return Evaluation(
        data, cells_of(data.layout(Split(0)), scaled(data.z, normalize), scaled_views), Split(0), normalize
    )


def reference(
    data: Embedded, views: Views, held_out: int, left_out: int | None, k: int, test: np.ndarray, probe: bool
) -> float:
    """Accuracy on `test` of CLIP-ICM with lambda 2, written straight from the paper."""
    train = ~data.out[Split(0)] & (data.environment != held_out)
    if left_out is not None:
        train &= data.environment != left_out
    z = data.z.astype(np.float64)
    d = np.concatenate([z - view for view in views.values()])[np.tile(train, 2)]
    m = z[train].T @ z[train] / train.sum() - 2.0 * d.T @ d / len(d)
    a = np.linalg.eigh(m)[1][:, ::-1][:, :k].T
    if probe:
        model = LogisticRegression(C=0.316, max_iter=1000).fit(z[train] @ a.T, data.label[train])
        return float(model.score(z[test] @ a.T, data.label[test]))
    t = data.text @ a.T
    scores = (z[test] @ a.T) @ (t / np.linalg.norm(t, axis=1, keepdims=True)).T
    return float((scores.argmax(axis=1) == data.label[test]).mean())


def icm(moments: SourceMoments) -> Basis:
    return ICM(lambda_=2.0).fit(moments)


@pytest.mark.parametrize("predictor", [ZeroShot(), LinearProbe()])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_accuracy_equals_the_reference(predictor, grouped) -> None:  # type: ignore[no-untyped-def]
    data, views = synthetic(grouped=grouped)
    protocol = protocol_of(data, views)
    probe = isinstance(predictor, LinearProbe)
    out = data.out[Split(0)]
    lodo_rows = out if grouped else ~out
    splits: list[TestSplit] = ["out_20", "in_80", "full"]
    curves = list(protocol.curves(icm, predictor, RANKS, PROTOCOLS.create("held_out").folds(data.environments, splits)))
    assert [(c.held_out, c.test_split) for c in curves] == [(e, s) for e in data.environments for s in splits]
    for h in range(ENVIRONMENTS):
        by_split = {c.test_split: c for c in curves if c.held_out == data.environments[h]}
        curve = by_split["full"]
        here = data.environment == h
        sources = [s for s in range(ENVIRONMENTS) if s != h]
        for i, k in enumerate(RANKS):
            for split, rows in (("out_20", out), ("in_80", ~out), ("full", here)):
                expected = reference(data, views, h, None, k, here & rows, probe)
                assert by_split[split].metrics["target"][i] == pytest.approx(expected, abs=1e-12)  # type: ignore[index]
            domain = [reference(data, views, h, None, k, (data.environment == s) & out, probe) for s in sources]
            assert curve.training_domain[i] == pytest.approx(np.mean(domain), abs=1e-12)
            lodo = [reference(data, views, h, s, k, (data.environment == s) & lodo_rows, probe) for s in sources]
            assert curve.lodo is not None
            assert curve.lodo[i] == pytest.approx(np.mean(lodo), abs=1e-12)
        assert curve.n_train == (~out & ~here).sum()


def test_nothing_of_the_held_out_environment_reaches_fit_or_selection() -> None:
    data, views = synthetic()
    rng = np.random.default_rng(9)
    noise = data.z.copy()
    noise[data.environment == 1] = rng.standard_normal((60, D))
    poisoned = Embedded(**{**vars(data), "z": noise})
    clean_curve, poisoned_curve = (
        list(
            protocol_of(d, views).curves(
                icm, LinearProbe(), RANKS, PROTOCOLS.create("held_out").folds(d.environments, ["full"])
            )
        )[1]
        for d in (data, poisoned)
    )
    assert clean_curve.training_domain == poisoned_curve.training_domain
    assert clean_curve.lodo == poisoned_curve.lodo
    assert clean_curve.spectrum == poisoned_curve.spectrum
    assert clean_curve.metrics["target"] != poisoned_curve.metrics["target"]


def test_two_environments_have_no_lodo() -> None:
    data, _ = synthetic()
    keep = data.environment < 2
    two = Embedded(
        **{
            **vars(data),
            "z": data.z[keep],
            "environment": data.environment[keep],
            "label": data.label[keep],
            "out": {Split(0): data.out[Split(0)][keep]},
            "environments": ["amber", "blue"],
        }
    )
    folds = PROTOCOLS.create("held_out").folds(two.environments, ["full"])
    curves = list(protocol_of(two, {}).curves(lambda m: Basis(np.eye(m.dim)), ZeroShot(), (D,), folds))
    assert [curve.lodo for curve in curves] == [None, None]


def test_normalising_before_and_after_are_what_they_say() -> None:
    data, _ = synthetic()
    unit = Embedded(**{**vars(data), "z": data.z / np.linalg.norm(data.z, axis=1, keepdims=True)})
    fit = lambda m: Basis(np.eye(m.dim))  # noqa: E731
    cases: list[tuple[Embedded, Normalize]] = [(data, "before"), (unit, "none"), (data, "after")]
    folds = PROTOCOLS.create("held_out").folds(data.environments, ["full"])
    before, by_hand, after = (list(protocol_of(d, {}, n).curves(fit, LinearProbe(), (D,), folds)) for d, n in cases)
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
