"""RoboShot: harmful directions are removed from images and helpful ones increased. Prompts define both.

    x^ = (I + s V V^T)(I - s U U^T) x

    U   an orthonormal basis of the span of differences between harmful prompts of one list
    V   an orthonormal basis of the span of differences between helpful prompts of one list

Prompts have unit length. The map is fitted on prompts only and applied to images only; text embeddings are unchanged.
The method is by Adila et al. (ICLR 2024, arXiv 2309.04344), with s = 1. They apply the two steps to one basis vector
after another and rescale to unit length after each. The rescaling does not change cosines. A language model writes
their prompts for the task; here prompts come from the recipe. By default harmful prompts name the source environments
("a photo of a sketch."). No prompt is helpful by default, since increasing the span of class texts changes no zero-shot
prediction.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.prompts import Names, Prompt, in_groups, within_groups
from benchmark.method.subspace.basis import Basis, Projection, span
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.rivals.biased_prompts import Groups, Words
from benchmark.method.subspace.rivals.centring import SHARES, Share

HARMFUL, HELPFUL = "harmful", "helpful"  # roles of prompts


class RoboShot(Projection, label="RoboShot", role="rival", place=7):
    """Remove harmful directions from images and increase helpful ones; prompts define both (Adila et al. 2024).

    Every fit uses the prompts and words of the recipe, so they must not describe the target.

    Fields:
        words: two or more words for environments, from which harmful prompts are built. Default: the names of the
            source environments in the recipe's templates.
        reject: lists of whole prompts, often pairs, that differ in a harmful attribute. Default: one list, with a
            prompt for each word.
        increase: lists of whole prompts that differ in a helpful attribute. Default: none.
        lambdas: candidate shares s, 0 to 1; 0 changes nothing, 1 is the published value.
        lambda_: one share; a recipe gives `lambdas`.
    """

    plain_at_lambda_0: ClassVar[bool] = True
    full_rank_only: ClassVar[bool] = True
    words: Words | None = None
    reject: Groups | None = None
    increase: tuple[Words, ...] = ()
    lambdas: Annotated[tuple[Share, ...], Field(min_length=1)] = SHARES
    lambda_: Share = 1.0

    @property
    def min_sources(self) -> int:
        """Minimum number of source environments: two if harmful prompts are built from their names."""
        return 2 if self.words is None and self.reject is None else 1

    @property
    def variant(self) -> str:
        """The origin of the prompts, as text."""
        return "own prompts" if (self.words, self.reject, self.increase) != (None, None, ()) else ""

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """See `Projection.prompts`."""
        made = [Prompt(names.in_templates(word), HARMFUL, environment=e) for word, e in names.words(self.words)]
        harmful = made if self.reject is None else in_groups(HARMFUL, self.reject)
        return (*harmful, *in_groups(HELPFUL, self.increase))

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the map of images. Texts are unchanged."""
        plain = np.eye(sources.dim)
        vectors = plain - self.lambda_ * _projector(sources.prompts(HARMFUL))
        if self.increase:
            vectors = vectors @ (plain + self.lambda_ * _projector(sources.prompts(HELPFUL)))
        return Basis(vectors, None, plain)


def _projector(groups: list[Array]) -> Array:
    """Return U U^T, shape (D, D), with U an orthonormal basis of the differences within groups."""
    u = span(within_groups(groups).T, squared_length=1.0)
    if not u.shape[1]:
        raise ValueError("The prompts of each list are all the same: there is no direction between them.")
    return np.asarray(u @ u.T)
