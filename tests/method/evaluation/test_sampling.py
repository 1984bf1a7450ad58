"""Images by which choices are made: how many, of which classes, and always the same ones."""

import numpy as np
import pytest

from benchmark.method.evaluation.sampling import sampled


def drawn(most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    environment = rng.integers(3, size=4000)
    label = np.minimum(rng.geometric(0.2, size=4000) - 1, 12)
    which = (rng.random(4000) < 0.7) & ((environment < 2) | (rng.random(4000) < 0.2))
    return sampled(which, environment, label, most, seed), which, environment, label


@pytest.mark.parametrize("most", [50, 500, 10_000])
def test_each_environment_gives_so_many_with_classes_in_proportion(most: int) -> None:
    chosen, which, environment, label = drawn(most)
    assert not (chosen & ~which).any()
    for e in range(3):
        before, after = (np.bincount(label[w & (environment == e)], minlength=13) for w in (which, chosen))
        assert after.sum() == min(most, before.sum())
        assert np.abs(after - before * min(1, most / before.sum())).max() < 1
    assert which[environment == 2].sum() < 500 < which[environment == 0].sum()


def test_the_seed_decides_which() -> None:
    same, other = drawn(100)[0], drawn(100, seed=1)[0]
    np.testing.assert_array_equal(same, drawn(100)[0])
    assert (same & other).sum() < 100 < same.sum()
    # Within a class every image is as likely as any other: none is preferred by its place.
    counts = np.sum([drawn(300, seed)[0] for seed in range(60)], axis=0)
    _, which, environment, _ = drawn(300)
    rows = np.flatnonzero(which & (environment == 0))
    first, second = np.array_split(counts[rows], 2)
    assert first.mean() == pytest.approx(second.mean(), rel=0.1)
