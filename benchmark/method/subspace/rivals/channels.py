"""Selection of channels (embedding coordinates) that vary between classes and not between environments.

    between_environments_j = mean over classes of the variance over environments of mean_ec,j
    between_classes_j      = mean over environments of the variance over classes of mean_ec,j
    channels in order of   between_classes_j / between_environments_j, the largest first

mean_ec,j is the mean of channel j over the images of class c in environment e. Pairs (e, c) without images are left
out. CLIPCEIL (Yu et al., NeurIPS 2024) trains an adapter whose channels vary little between domains and much between
classes. Here the encoder's own channels are ordered with the same aim. There is no adapter, so the projection is not
called CLIPCEIL. The ratio of the two variances is this project's choice; it makes the scale of a channel irrelevant.
"""

from typing import ClassVar

import numpy as np

from benchmark.method.arrays import Array, Labels
from benchmark.method.subspace.basis import NEGLIGIBLE, Basis, Projection
from benchmark.method.subspace.moments import SourceMoments


class Channels(Projection, label="Channels by classes over environments", role="rival"):
    """Embedding coordinates by decreasing ratio of variance between classes to variance between environments.

    Rank k keeps the first k channels; `spectrum` has the ratios. Class labels of source images are used.

    Raises:
        ValueError: no class has images in two environments, or no environment has images of two classes.
    """

    plain_at_full_rank: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True
    min_sources: ClassVar[int] = 2  # it compares environments

    def fit(self, sources: SourceMoments) -> Basis:
        """Return a permutation of the channels."""
        floor = NEGLIGIBLE * np.trace(sources.c_z())
        filled = [m for m in sources.environments.values() if m.n]
        counts = np.stack([m.counts for m in filled])
        means = np.stack([m.sums for m in filled]) / np.maximum(counts, 1)[..., None]
        environments, classes = _variance(means, counts, axis=0), _variance(means, counts, axis=1)
        ratios = classes / np.maximum(environments, floor)
        order = np.argsort(-ratios, kind="stable")
        return Basis(np.eye(sources.dim)[:, order], ratios[order])


def _variance(means: Array, counts: Labels, axis: int) -> Array:
    """Return the variance of means along `axis`, averaged over the other axis, shape (D,).

    `means` has shape (environments, classes, D); `counts` has the number of images of each mean.
    """
    there = counts > 0
    n = there.sum(axis=axis)
    if not (n > 1).any():
        needed = "two environments with images of one class" if axis == 0 else "images of two classes in an environment"
        raise ValueError(f"The order of channels needs {needed}.")
    weights = there / np.expand_dims(np.maximum(n, 1), axis)
    mean = np.sum(weights[..., None] * means, axis=axis, keepdims=True)
    variances = np.sum(weights[..., None] * (means - mean) ** 2, axis=axis)
    return np.asarray(variances[n > 1].mean(axis=0))
