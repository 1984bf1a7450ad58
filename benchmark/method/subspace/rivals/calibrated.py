"""The calibrated projection of texts, with the nuisance N of source images instead of prompt pairs.

    G = (I + lambda N D / trace(C_z))^-1,    D the width of the embeddings

P = G minimises |P - I|^2 + lambda D / trace(C_z) trace(P N P^T): it is close to the identity and leaves little
nuisance. The factor D / trace(C_z) makes lambda dimensionless. G is symmetric. It equals the F of shrinkage with
(trace(C_z) / D) I instead of C_z, so it ignores how energy differs between directions.

Chuang et al. (2023, arXiv 2302.00070) apply G to texts after an orthogonal projection, with N from prompt pairs. Here N
comes from unlabelled source images, and there is no projection before G.
"""

from typing import ClassVar

import numpy as np

from benchmark.method.subspace.basis import Basis
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.nuisance import cached_for
from benchmark.method.subspace.shrinkage import Filter, Shrinkage, Sides, filtered_basis, nuisance_of


class Calibrated(Shrinkage, label="Calibrated projection", role="rival", place=7):
    """Calibrated projection, G = (I + lambda N D / trace(C_z))^-1; the rule chooses lambda and N.

    Fields:
        lambdas: candidate strengths.
        nuisance: see `shrinkage`.
        sides: what G is applied to: `texts` (default, as published), `symmetric` (the root of G on images and texts) or
            `images`.
        covariance: estimate of C_d in N, see `shrinkage`.
        lambda_: one strength; a recipe gives `lambdas`.
    """

    takes_placebo: ClassVar[bool] = False  # only truncation and shrinkage have placebos, not their rivals
    sides: Sides = "texts"

    def fit(self, sources: SourceMoments) -> Basis:
        """Fit G (see the class) on all source images and the nuisance.

        Return the maps of images and texts by G, or by its root.
        """
        name = self.nuisance_name
        energy = np.trace(sources.c_z()) / sources.dim * np.eye(sources.dim)
        what = ("calibrated", self.covariance)
        made = cached_for(
            sources, what, name, lambda: Filter.of(energy, nuisance_of(sources, name, self.covariance)), again=True
        )
        return filtered_basis(made, self.lambda_, self.sides)
