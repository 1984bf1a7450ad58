"""Clusters: planted ones are found for any lengths of embeddings and order of images."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from benchmark.method.evaluation.embedded import k_means


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of three clusters of 10, 40 and 20 images, in turns, of lengths that say nothing; their clusters."""
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], [10, 40, 20]))
    z = np.eye(8)[truth] + 0.05 * rng.standard_normal((len(truth), 8))
    return z * rng.uniform(0.1, 10, (len(z), 1)), truth


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_clusters_are_found_and_numbered_by_size(seed: int) -> None:
    z, truth = planted()
    found = k_means(z.astype(np.float32), 3, seed)
    assert adjusted_rand_score(truth, found) == 1
    assert np.bincount(found).tolist() == [40, 20, 10]


def test_the_seed_says_it_all() -> None:
    z = np.random.default_rng(1).standard_normal((60, 5))
    np.testing.assert_array_equal(k_means(z, 4, 3), k_means(z, 4, 3))


def test_more_clusters_than_different_images_are_refused() -> None:
    z = np.repeat(np.eye(3), 4, axis=0)
    assert len(set(k_means(z, 3, 0))) == 3
    with pytest.raises(ValueError, match="12 images have fewer than 4 different embeddings"):
        k_means(z, 4, 0)
