"""Test-time rivals: images of each environment, including the target, are mapped by the environment's statistics.

    own_mean    z - s (mean_e - mean_pool),    s between 0 and 1
    coral       C_pool^(1/2) C_e^(-1/2) (z - mean_e) + mean_pool

mean_pool and C_pool are mean and covariance of all source images; mean_e and C_e are those of environment e. For a
source environment they are computed from training images, for the target from test images without labels. No other
projection uses target images, so tables mark these two. Selection rules still use only sources: in leave-one-out fits,
validation images of the left-out source take the place of target images.

CORAL is by Sun, Feng and Saenko (AAAI 2016, arXiv 1511.05547). They map the source to the target and train a new
classifier. Here each environment is mapped to the pool of sources, so class texts and probes stay the same.

`PROJECTIONS` in `benchmark/method/subspace/__init__.py` gives these classes their names in recipes.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import Basis, Projection, regularized
from benchmark.method.subspace.moments import Moments, SourceMoments
from benchmark.method.subspace.rivals.centring import SHARES, Share
from benchmark.method.subspace.shrinkage import Lambda

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class OwnMean(Projection, label="Centring by the environment's own mean", role="rival", place=7):
    """Subtract a share lambda of (mean_e - mean_pool) from each image. Uses the test images.

    The mean of all source images is not subtracted, so that similarities to texts remain comparable.

    Fields:
        lambdas: candidate shares, 0 to 1; 0 changes nothing.
        lambda_: one share; a recipe gives `lambdas`.
    """

    plain_at_lambda_0: ClassVar[bool] = True
    full_rank_only: ClassVar[bool] = True
    looks_at_target_images: ClassVar[bool] = True
    lambdas: Annotated[tuple[Share, ...], Field(min_length=1)] = SHARES
    lambda_: Share = 1.0

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the identity, with a vector to subtract for each environment."""
        plain, pool = np.eye(sources.dim), sources.images

        def less(moments: Moments) -> Basis:
            apart = moments.total / moments.n - pool.total / pool.n
            return Basis(plain, None, plain, self.lambda_ * apart)

        own = {name: less(m) for name, m in {**sources.environments, **sources.targets}.items() if m.n}
        return Basis(plain, by_environment=own)


class Coral(Projection, label="CORAL", role="rival", place=7):
    """Give every environment the mean and covariance of all source images. Uses the test images.

    Fields:
        lambdas: candidate ridges. Each C is replaced by C + lambda trace(C) / D I, as environments may have fewer
            images than dimensions.
        lambda_: one ridge; a recipe gives `lambdas`.

    Raises:
        ValueError: all embeddings of an environment are equal.
    """

    full_rank_only: ClassVar[bool] = True
    looks_at_target_images: ClassVar[bool] = True
    lambdas: Annotated[tuple[Annotated[Lambda, Field(gt=0)], ...], Field(min_length=1)] = RIDGES
    lambda_: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the identity for unknown environments, and a map for each known one."""
        pool, plain = sources.images, np.eye(sources.dim)
        colouring = self._root(pool, 0.5)

        def aligned(moments: Moments) -> Basis:
            vectors = self._root(moments, -0.5) @ colouring  # both are symmetric: transpose of C_pool^1/2 C_e^-1/2
            # (z - mean_e) vectors + mean_pool, with both means in one offset
            offset = moments.total / moments.n - np.linalg.solve(vectors.T, pool.total / pool.n)
            return Basis(vectors, None, plain, offset)

        own = {name: aligned(m) for name, m in {**sources.environments, **sources.targets}.items() if m.n}
        return Basis(plain, by_environment=own)

    def _root(self, moments: Moments, power: float) -> Array:
        covariance = moments.c_z(centered=True)
        if np.trace(covariance) <= 0:
            raise ValueError("All images of an environment are the same: it has no covariance to be aligned.")
        energies, vectors = np.linalg.eigh(regularized(covariance, self.lambda_))
        return np.asarray((vectors * energies**power) @ vectors.T)
