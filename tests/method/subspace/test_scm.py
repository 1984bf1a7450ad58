"""Planted structural causal models: convergence to the invariant subspace, and benefit of the projection."""

import numpy as np
import pytest
from scipy.linalg import null_space, subspace_angles

from benchmark.method.arrays import unit
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import IN, OUT, Split
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS, InvariantProjection

SIZES = (250, 1000, 4000, 16_000)


def mixing(dim: int, condition: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mixing matrix A, shape (dim, dim), whose columns are not orthogonal, with the given condition number."""
    left, right = (np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(2))
    return left @ np.diag(np.geomspace(1, 1 / condition, dim)) @ right


def angle(n: int, case: tuple[int, int, float, float], seed: int) -> float:
    """Return the largest angle (degrees) between what is estimated from n pairs and what was planted.

    z = A (s, v) + noise, and an intervention draws v anew. With A not orthogonal, the directions that no intervention
    moves are the orthogonal complement of A's columns for v; a large lambda asks for these alone.
    """
    dim, variant, noise, condition = case
    rng = np.random.default_rng(seed)
    a = mixing(dim, condition, rng)
    s = rng.standard_normal((n, dim - variant))
    z, z_do = (
        np.hstack([s, rng.standard_normal((n, variant))]) @ a.T + noise * rng.standard_normal((n, dim))
        for _ in range(2)
    )
    fitted = InvariantProjection(lambda_=1e6, rank=dim - variant).fit(z, z_do)
    return float(np.degrees(subspace_angles(fitted.components_.T, null_space(a[:, dim - variant :].T))[0]))


# Medians over ten seeds in degrees, at the sizes above.
CURVES = {
    (12, 4, 0.05, 1.0): (0.7122, 0.3835, 0.1738, 0.0768),
    (32, 12, 0.05, 1.0): (1.3951, 0.6547, 0.3416, 0.1639),
    (32, 12, 0.01, 30.0): (1.6234, 0.7797, 0.3840, 0.1966),
    (64, 16, 0.02, 10.0): (2.5945, 1.2592, 0.6036, 0.2907),
}


@pytest.mark.parametrize("case", list(CURVES))
def test_the_error_falls_as_one_over_the_root_of_the_sample_size(case) -> None:  # type: ignore[no-untyped-def]
    errors = [np.median([angle(n, case, seed) for seed in range(10)]) for n in SIZES]
    slope = np.polyfit(np.log(SIZES), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4
    np.testing.assert_allclose(errors, CURVES[case], rtol=0.02)


INVARIANT, VARIANT, CLASSES, EACH = 10, 6, 4, 600
DIM = INVARIANT + VARIANT


def spurious(seed: int) -> tuple[Embedded, dict[str, np.ndarray]]:
    """Four environments: variant factors tell the class in three of them, and nothing in the last.

    Class names bring the variant factors along, as names of things seen mostly in one setting do, and the variant
    factors have more energy than the invariant ones, so that PCA keeps them.
    """
    rng = np.random.default_rng(seed)
    a, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    classes = rng.standard_normal((CLASSES, INVARIANT))
    styles = 2.5 * rng.standard_normal((CLASSES, VARIANT))
    environment, label = np.repeat(np.arange(4), EACH), rng.integers(CLASSES, size=4 * EACH)
    told = np.where((environment < 3) & (rng.random(len(label)) < 0.95), label, rng.integers(CLASSES, size=len(label)))
    s = classes[label] + 1.2 * rng.standard_normal((len(label), INVARIANT))
    noise = lambda: 0.05 * rng.standard_normal((len(label), DIM))  # noqa: E731
    style = lambda which: styles[which] + rng.standard_normal((len(label), VARIANT))  # noqa: E731
    z = np.hstack([s, style(told)]) @ a.T + noise()
    z_do = np.hstack([s, style(rng.integers(CLASSES, size=len(label)))]) @ a.T + noise()
    text = np.hstack([classes, 0.5 * styles]) @ a.T
    data = Embedded(
        z=z.astype(np.float32), environment=environment, label=label, text=unit(text).astype(np.float32),
        side={Split(0): np.where(rng.random(len(z)) < 0.2, OUT, IN)},
        environments=["a", "b", "c", "d"], classes=[f"class{c}" for c in range(CLASSES)],
    )  # fmt: skip
    return data, {"style": z_do.astype(np.float32)}


@pytest.mark.parametrize("predictor", ["zero_shot", "linear_probe", "ridge", "class_means", "tip_adapter"])
def test_only_the_invariant_subspace_survives_a_correlation_of_the_sources_alone(predictor: str) -> None:
    accuracies: dict[str, list[float]] = {name: [] for name in ("identity", "icm", "generalized", "pca", "random")}
    for seed in range(3):
        data, views = spurious(seed)
        holdouts = PROTOCOLS.create("held_out").holdouts(data.environments, ["full"])
        protocol = Evaluation(data, cells_of(data.layout(Split(0)), data.z, views), FitSettings(Split(0), "none"))
        for name, of_seeds in accuracies.items():
            projection = PROJECTIONS.create(name)
            rank = DIM if projection.full_rank_only else INVARIANT
            method = Method(projection.at(lambda_=10.0, seed=seed), PREDICTORS.create(predictor), (rank,))
            last = [curve for curve in protocol.curves(method, holdouts) if curve.held_out == "d"]
            chosen = max(last, key=lambda curve: curve.training_domain[0])  # of several settings, by the sources
            of_seeds.append(chosen.metrics["target"][0])
    means = {name: float(np.mean(of_seeds)) for name, of_seeds in accuracies.items()}
    for name in ("icm", "generalized"):
        assert means[name] > means["identity"] + 0.1
    for name in ("pca", "random"):
        assert means[name] < min(means["identity"] + 0.05, means["icm"] - 0.2)  # chance differs by a little
