"""RoboShot: removal of harmful directions from images, and increase of helpful ones, both given by prompts.

    x^ = (I + s V V^T)(I - s U U^T) x

    U   an orthonormal basis of the span of differences between harmful prompts of one list
    V   the same for helpful prompts

all prompts at unit length; texts stay. From Adila et al. (ICLR 2024, arXiv 2309.04344), with s = 1: the two steps one
after the other for every vector of either basis, with a length of 1 after each, which no cosine sees. Their prompts are
insights of a language model on the task; here they come from the recipe. By default harmful prompts name the source
environments ("a photo of a sketch."), and none are helpful: increasing the span of the class texts changes no
zero-shot answer. No image is used.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.arrays import Array
from benchmark.method.prompts import Names, Prompt, in_groups, within_groups
from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.directions import span
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.rivals.biased_prompts import Groups, Words
from benchmark.method.subspace.rivals.centring import SHARES, Share

HARMFUL, HELPFUL = "harmful", "helpful"  # roles of prompts


class RoboShot(Projection, label="RoboShot", role="rival", place=7):
    """Images without harmful directions, and with more of helpful ones, given by prompts (Adila et al. 2024).

    Every fit uses the prompts and words of a recipe: they must not describe the target.

    Fields:
        words: two or more words for environments, to build harmful prompts. Default: the names of the source
            environments, in the recipe's templates.
        reject: lists of whole prompts, often pairs, that differ in a harmful attribute. Default: one list of the words.
        increase: lists of whole prompts that differ in a helpful attribute. Default: none.
        lambdas: candidate shares s, 0 to 1; 0 is the plain space, 1 as published.
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
        """Two if harmful prompts are built from names of source environments."""
        return 2 if self.words is None and self.reject is None else 1

    @property
    def variant(self) -> str:
        """Whether prompts are built from names of environments."""
        return "own prompts" if (self.words, self.reject, self.increase) != (None, None, ()) else ""

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """See `Projection.prompts`."""
        made = [Prompt(names.in_templates(word), HARMFUL, environment=e) for word, e in names.words(self.words)]
        harmful = made if self.reject is None else in_groups(HARMFUL, self.reject)
        return (*harmful, *in_groups(HELPFUL, self.increase))

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the map of images; texts stay."""
        plain = np.eye(sources.dim)
        vectors = plain - self.lambda_ * _projector(sources.prompts(HARMFUL))
        if self.increase:
            vectors = vectors @ (plain + self.lambda_ * _projector(sources.prompts(HELPFUL)))
        return Basis(vectors, None, plain)


def _projector(groups: list[Array]) -> Array:
    """Return U U^T, shape (D, D), U a basis of the differences within groups."""
    u = span(within_groups(groups).T, squared_length=1.0)
    if not u.shape[1]:
        raise ValueError("The prompts of each list are all the same: there is no direction between them.")
    return np.asarray(u @ u.T)
