"""Centring: a share s of the mean image is subtracted from images, and of the mean class text from texts.

    z - s mean(z),    t - s mean(t),    s between 0 and 1

mean(z) is over all source images, mean(t) over the class texts. Image and text embeddings lie in two separate cones
(Liang et al., NeurIPS 2022, arXiv 2203.02053). Cosines are computed from centred embeddings.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.shrinkage import Sides

Share = Annotated[float, Field(ge=0, le=1)]
SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)


class Centring(Projection, label="Centring", role="rival", place=7):
    """Subtract a share lambda of the mean source image from images, and of the mean class text from texts.

    Fields:
        lambdas: candidate shares, 0 to 1; 0 changes nothing.
        sides: what is centred: `symmetric` (default: images and texts), `images` or `texts`.
        lambda_: one share; a recipe gives `lambdas`.
    """

    plain_at_lambda_0: ClassVar[bool] = True
    full_rank_only: ClassVar[bool] = True
    lambdas: Annotated[tuple[Share, ...], Field(min_length=1)] = SHARES
    sides: Sides = "symmetric"
    lambda_: Share = 1.0

    @property
    def variant(self) -> str:
        """`images` or `texts` if only images or only texts are centred; empty if both are."""
        return "" if self.sides == "symmetric" else self.sides

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the identity with vectors to subtract before it."""
        images = sources.images
        if not images.n:
            raise ValueError("There is no image to take the mean of.")
        offset = None if self.sides == "texts" else self.lambda_ * images.total / images.n
        return Basis(np.eye(sources.dim), offset=offset, text_share=0.0 if self.sides == "images" else self.lambda_)
