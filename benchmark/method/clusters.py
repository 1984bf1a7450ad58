"""Environments where nobody named them: clusters of images by k-means on their embeddings.

Environments inferred without names are an old wish (EIIL, Creager et al. 2021); this is the plainest way. Clusters
follow whatever spreads embeddings most: where that is the object and not its surroundings, so are they.
"""

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import unit

STARTS = 10  # of which the best is taken


def k_means(z: NDArray[np.floating], count: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each image, shape (n,), 0 <= cluster < count, the largest first.

    Args:
        z: embeddings, shape (n, D); they are brought to unit length.
        count: number of clusters, at least 1.
        seed: of the starts.

    Raises:
        ValueError: there are fewer different embeddings than clusters.
    """
    from sklearn.cluster import KMeans

    if len(np.unique(z, axis=0)) < count:
        raise ValueError(f"{len(z)} images have fewer than {count} different embeddings.")
    labels = KMeans(count, n_init=STARTS, random_state=seed).fit(unit(np.asarray(z, dtype=np.float64))).labels_
    by_size = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    return np.asarray(np.argsort(by_size)[labels], dtype=np.int64)
