"""Variance between seeds not explained by images, against loops over pairs and clusters."""

from itertools import combinations

import numpy as np
import pytest

from benchmark.method.arrays import Array
from benchmark.method.evaluation.inference import Scores, by_environment, image_interval
from benchmark.method.evaluation.seed_variance import MIN_UNITS, Design, seed_variance


def world(rng: np.random.Generator, seeds: int, environments: int, pool: int, share: float, kind: str) -> Design:
    """Images of which each seed tests a share: of one environment each, in groups, or in every environment."""
    cells = [(e, s, rng.permutation(pool)[: round(share * pool)]) for s in range(seeds) for e in range(environments)]
    environment, seed = (np.repeat([cell[i] for cell in cells], [len(cell[2]) for cell in cells]) for i in (0, 1))
    cluster = np.concatenate([{"own": e * pool + i, "groups": i // 2, "all": i}[kind] for e, _, i in cells])
    return Design(environment, seed, np.unique(cluster, return_inverse=True)[1])


def contrast(d: Array, where: Design, first: int) -> tuple[float, float]:
    """Mean under one of two seeds minus that under the other, and its variance over clusters, from the formula."""
    cells = {
        (e, s): (where.environment == e) & (where.seed == s) for e in set(where.environment) for s in set(where.seed)
    }
    means, environments = {cell: d[inside].mean() for cell, inside in cells.items()}, len(set(where.environment))
    u = dict.fromkeys(where.cluster.tolist(), 0.0)
    for (e, s), inside in cells.items():
        for value, cluster in zip(d[inside], where.cluster[inside].tolist(), strict=True):
            u[cluster] += (1 if s == first else -1) * (value - means[e, s]) / inside.sum() / environments
    delta = sum((1 if s == first else -1) * mean for (_, s), mean in means.items()) / environments
    return float(delta), len(u) / (len(u) - 1) * sum(one**2 for one in u.values())


def by_pairs(d: Array, where: Design) -> float:
    """V_seed as the head of the module has it."""
    seeds, environments, squares, explained = int(where.seed.max()) + 1, int(where.environment.max()) + 1, [], []
    for s, t in combinations(range(seeds), 2):
        pair = where.of((where.seed == s) | (where.seed == t))
        values = d[(where.seed == s) | (where.seed == t)]
        both = np.isin(pair.cluster, np.intersect1d(pair.cluster[pair.seed == s], pair.cluster[pair.seed == t]))
        parts = [(values[rows], pair.of(rows)) for rows in (both, ~both)]
        fewest = [
            min(len(set(p.cluster[(p.environment == e) & (p.seed == i)])) for e in range(environments) for i in (s, t))
            for _, p in parts
        ]
        if min(fewest) < MIN_UNITS:
            delta, e = contrast(values, pair, s)
        else:
            found = [contrast(v, p, s) for v, p in parts]
            weights = [1 / max(v, 1 / (environments * n) ** 2) for (_, v), n in zip(found, fewest, strict=True)]
            e = 1 / sum(weights)
            delta = e * sum(w * one for w, (one, _) in zip(weights, found, strict=True))
        squares.append(delta**2)
        explained.append(e)
    return (seeds - 1) / seeds * max(0.0, float(np.mean(squares) - np.mean(explained))) / 2 / seeds


@pytest.mark.parametrize("kind", ["own", "groups", "all"])
@pytest.mark.parametrize(("seeds", "environments", "share"), [(2, 3, 1.0), (4, 2, 0.5), (3, 1, 0.2), (5, 2, 0.35)])
def test_all_pairs_at_once_are_pair_by_pair(kind: str, seeds: int, environments: int, share: float) -> None:
    rng = np.random.default_rng([seeds, environments, len(kind)])
    where = world(rng, seeds, environments, 140, share, kind)
    of_image = rng.random(where.cluster.max() + 1) < 0.6
    far = rng.random((2, len(where.seed))) < np.array([0.3, 0.8])[where.seed % 2]  # seeds that differ
    values = np.stack(
        [of_image[where.cluster] ^ (rng.random(len(where.seed)) < 0.1), *far, far[0] - 1.0 * far[1],
         of_image[where.cluster], np.ones(len(where.seed)), rng.normal(size=len(where.seed))]
    ).astype(float)  # fmt: skip
    expected = [by_pairs(d, where) for d in values]
    np.testing.assert_allclose(seed_variance(values, where), expected, rtol=1e-10, atol=1e-18)
    assert max(expected) > 0


def test_of_very_many_seeds_pairs_within_groups_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve seeds in groups of three, of which three are looked at: the same as pair by pair within these."""
    monkeypatch.setattr("benchmark.method.evaluation.seed_variance.GROUP", 3)
    monkeypatch.setattr("benchmark.method.evaluation.seed_variance.MAX_GROUPS", 3)
    rng = np.random.default_rng(3)
    where = world(rng, 12, 2, 140, 0.5, "own")
    right = np.array([0.2, 0.9, 0.4, 0.8, 0.1, 0.3, 0.5, 0.9, 0.6, 0.7, 0.1, 0.4])[where.seed]
    values = (rng.random(len(where.seed)) < right).astype(float)
    found = []  # mean delta^2 - mean e of each group; V_seed of three seeds is 2 / 3 of it / 2 / 3
    for first in (0, 3, 9):
        inside = np.isin(where.seed, [first, first + 1, first + 2])
        of_group = where.of(inside)
        found.append(9 * by_pairs(values[inside], of_group._replace(seed=of_group.seed - first)))
    assert min(found) > 0
    got = seed_variance(values[None], where)[0]
    assert got == pytest.approx(11 / 12 * np.mean(found) / 2 / 12, rel=1e-10)
    scores = Scores(values, where.environment, where.seed, where.cluster)
    assert scores.pairs.freedom == 3 * 2 + 1
    freedom, v_image = image_interval(scores).degrees_of_freedom, image_interval(scores).standard_error ** 2 - got
    assert freedom == pytest.approx((v_image + got) ** 2 / (v_image**2 / (scores.clusters - 1) + got**2 / 7))
    assert len({one.standard_error for one in by_environment(scores)}) == 2
