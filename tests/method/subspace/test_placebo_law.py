"""Placebos are exchangeable with a C_d without information."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmark.method.subspace import Differences, Moments, SourceMoments, shrinkage_basis
from benchmark.method.subspace.placebos import Matched, Rotated, haar
from tests.method.subspace.test_placebos import root

pytestmark = pytest.mark.long("a draw of a placebo has another law than what it stands for")

WORLDS, DRAWS, SMALL, PER = 2000, 9, 3, 24
LAMBDAS = (1.0, 30.0)


@pytest.mark.parametrize("kind", [Rotated, Matched])
def test_the_rank_of_a_real_one_of_the_placebos_law_is_uniform(kind: Any) -> None:
    """2,000 worlds in which C_d says nothing: its directions are as random as a placebo's. Ties at random."""
    ranks = [_rank_in_a_world(world, kind) for world in range(WORLDS)]
    counts = np.bincount(ranks, minlength=DRAWS + 1)
    assert stats.chisquare(counts).pvalue > 0.001


def _rank_in_a_world(world: int, kind: Any) -> int:
    """Rank of the real one among draws by target accuracy, each with the lambda that is best on the source."""
    rng = np.random.default_rng([5, world])
    classes = rng.standard_normal((3, SMALL))
    label = np.arange(2 * PER) % 3
    z = classes[label] + rng.standard_normal((2 * PER, SMALL))
    c_z = z[:PER].T @ z[:PER] / PER
    q = haar(SMALL, 10 + world, 10**6)
    spectrum = np.diag([4.0, 0.3, 0.0])
    half = root(c_z, 0.5) if kind is Matched else np.eye(SMALL)
    c_d = half @ q @ spectrum @ q.T @ half
    images = Moments.of(z[:PER])
    differences = {"k": Differences(PER, np.zeros(SMALL), PER * c_d)}
    moments = SourceMoments({"a": Moments(images.counts, images.sums, images.outer, differences)})
    scores = []
    for draw in range(DRAWS + 1):
        instead = moments.reweighted({"k": 1.0}, kind(world, draw) if draw else None)
        right = []
        for lambda_ in LAMBDAS:
            f = shrinkage_basis(instead, lambda_, "interventions").vectors
            text = classes @ f
            right.append(((z @ f) @ (text / np.linalg.norm(text, axis=1, keepdims=True)).T).argmax(axis=1) == label)
        chosen = int(np.argmax([answers[:PER].mean() for answers in right]))
        scores.append(right[chosen][PER:].mean())
    return int(sum(np.array(scores[1:]) > scores[0]) + rng.integers(1 + sum(np.array(scores[1:]) == scores[0])))
