"""Planted z = x + v, both of full rank: what shrinkage gains there over the plain space and over truncation.

x is a class's place and what differs within it, v what environments and interventions move; their spectra overlap, so
that no direction is free of either. Everything is chosen by `lodo`.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmark.method.arrays import unit
from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.method.evaluation.splits import Split
from benchmark.method.predictors.zero_shot import ZeroShot
from benchmark.method.subspace import PROJECTIONS, Projection

pytestmark = pytest.mark.long("shrinkage gains nothing where it must, or by interventions that say nothing")

D, CLASSES, NAMES, EACH, DRAWS = 12, 10, ["a", "b", "c", "d"], 60, 50


def planted(seed: int, of_views: bool = True) -> tuple[Embedded, dict[str, np.ndarray]]:
    """Return embeddings of 4 environments, and views that redraw v; or, as a control, views that say nothing of it."""
    rng = np.random.default_rng(seed)
    n = EACH * len(NAMES)
    environment, label = np.repeat(np.arange(len(NAMES)), EACH), np.tile(np.arange(CLASSES), n // CLASSES)
    turn = np.linalg.qr(rng.standard_normal((D, D)))[0]
    places = rng.standard_normal((CLASSES, D)) @ turn
    x = places[label] + 0.3 * rng.standard_normal((n, D)) @ turn
    of_v = np.linspace(2.5, 0.3, D)[:, None] * turn  # below x's energy in some directions, above it in others
    z = x + rng.standard_normal((n, D)) @ of_v + 0.7 * (rng.standard_normal((len(NAMES), D)) @ of_v)[environment]
    moved = rng.standard_normal((n, D)) @ (of_v if of_views else np.linalg.qr(rng.standard_normal((D, D)))[0] @ of_v.T)
    data = Embedded(
        z=z.astype(np.float32), environment=environment, label=label, text=unit(places).astype(np.float32),
        side={Split(0): np.where(rng.random(n) < 0.2, 1, 0)},
        environments=NAMES, classes=[f"class {c}" for c in range(CLASSES)],
    )  # fmt: skip
    return data, {"redraw": (z + moved).astype(np.float32)}


@cache
def accuracy(seed: int, of_views: bool, method: str) -> float:
    """Return the mean accuracy on held-out environments of what `lodo` chooses among lambdas, settings and ranks."""
    data, views = planted(seed, of_views)
    projection: Projection = PROJECTIONS.create(METHODS[method])
    cells = cells_of(data.layout(Split(0)), data.z.astype(np.float64), views)
    evaluation = Evaluation(data, cells, FitSettings(Split(0), "none"))
    holdouts = PROTOCOLS.create("held_out").holdouts(NAMES, ["full"])
    ranks = (D,) if projection.full_rank_only else (2, 4, 6, 9, D)
    best: dict[str, tuple[float, float]] = {}
    for lambda_ in projection.own_lambdas or ((0.1, 0.3, 1.0, 3.0, 10.0) if projection.uses_lambda else (0.0,)):
        for curve in evaluation.curves(Method(projection.at(lambda_=lambda_), ZeroShot(), ranks), holdouts):
            assert curve.lodo is not None
            for point in zip(curve.lodo, curve.metrics["target"], strict=True):
                if point[0] > best.get(curve.held_out, (-1.0, 0.0))[0]:
                    best[curve.held_out] = point
    return float(np.mean([target for _, target in best.values()]))


def gain(ours: str, theirs: str, of_views: bool = True) -> tuple[float, float]:
    """Return the 95 % interval of the mean paired difference over draws."""
    differences = [accuracy(seed, of_views, ours) - accuracy(seed, of_views, theirs) for seed in range(DRAWS)]
    low, high = stats.t.interval(0.95, DRAWS - 1, np.mean(differences), stats.sem(differences))
    return float(low), float(high)


METHODS: dict[str, Any] = {
    "plain": "identity",
    "truncation": "icm",
    "shrinkage": {"name": "shrinkage", "nuisance": "interventions"},
}


def test_shrinkage_gains_over_the_plain_space_and_over_truncation_where_both_parts_have_full_rank() -> None:
    assert gain("shrinkage", "plain")[0] > 0
    assert gain("shrinkage", "truncation")[0] > 0


def test_interventions_that_say_nothing_of_the_nuisance_gain_nothing() -> None:
    assert gain("shrinkage", "plain", of_views=False)[0] <= 0
