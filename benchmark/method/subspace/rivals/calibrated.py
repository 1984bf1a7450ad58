"""The calibrated projection of texts, with the nuisance of the sources in place of pairs of prompts.

    G = (I + lambda N D / trace(C_z))^-1,    D the width of the embeddings

minimises |P - I|^2 + lambda D / trace(C_z) trace(P N P^T): close to the identity, with little nuisance. The factor
makes lambda dimensionless. It is shrinkage without the energy of the embeddings by direction: F with
(trace(C_z) / D) I in place of C_z. G is symmetric.

Chuang et al. (2023, arXiv 2302.00070) apply G to texts, with N from pairs of prompts and after an orthogonal
projection; here N comes from unlabelled source images, without a projection before.
"""

from typing import ClassVar

import numpy as np

from benchmark.method.subspace.basis import Basis
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.nuisance import cached_for, nuisance
from benchmark.method.subspace.shrinkage import Filter, Shrinkage, Sides, filtered_basis


class Calibrated(Shrinkage, label="Calibrated projection", role="rival", place=7):
    """Calibrated projection, G = (I + lambda N D / trace(C_z))^-1; the rule chooses lambda and N.

    Fields:
        lambdas: candidate strengths.
        nuisance: see `shrinkage`.
        sides: what G is applied to: `texts` (default, as published), `symmetric` (its root on images and texts) or
            `images`.
        lambda_: one strength; a recipe gives `lambdas`.
    """

    takes_placebo: ClassVar[bool] = False  # placebos are of truncation and shrinkage, not of their rivals
    sides: Sides = "texts"

    def fit(self, sources: SourceMoments) -> Basis:
        """Return G, or its root, from all source images and the nuisance."""
        name = self.nuisance_name
        energy = np.trace(sources.c_z()) / sources.dim * np.eye(sources.dim)
        made = cached_for(sources, "calibrated", name, lambda: Filter.of(energy, nuisance(sources, name)), again=True)
        return filtered_basis(made, self.lambda_, self.sides)
