"""Debiasing of texts by prompts: removal of spurious directions, and calibration by pairs of prompts.

    P = P_0 (I + lambda M)^-1,    t^ = P t,    P_0 = I - Q Q^T

    Q   an orthonormal basis of the span of the spurious prompts
    M   (1/|S|) sum over S of (p_i - p_j)(p_i - p_j)^T, S all pairs that differ only in the spurious attribute

minimises |P - P_0|^2 + (lambda / |S|) sum over S of |P p_i - P p_j|^2, all prompts at unit length; images stay. From
Chuang et al. (2023, arXiv 2302.00070): lambda 0 is their orthogonal projection, their code's default is 1000. No image
is used. Their prompts are written for each data set; here they are built from names by default: spurious prompts
name a source environment ("a photo of a sketch."), pairs a class with one and another ("a photo of a dog, sketch.").
"""

from itertools import combinations
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.prompts import Names, Prompt, in_groups
from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.directions import span
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.shrinkage import Lambda

Text = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[Text, ...], Field(min_length=2)]
Groups = Annotated[tuple[Words, ...], Field(min_length=1)]
SPURIOUS, ALIKE = "spurious", "alike"  # roles of prompts


class BiasedPrompts(Projection, label="Debiasing by prompts", role="rival", place=7):
    """Texts without directions of spurious prompts, calibrated by pairs (Chuang et al. 2023); the rule chooses lambda.

    Every fit uses the prompts and words of a recipe: they must not describe the target.

    Fields:
        words: two or more words for environments, to build prompts. Default: the names of the source
            environments, in the recipe's templates.
        spurious: whole prompts whose directions are removed. Default: each of the words.
        pairs: lists of whole prompts that differ only in the spurious attribute; all pairs of a list are used. Default:
            for each class of the fit, its name with each of the words.
        orthogonal: whether directions are removed before, as published. Default true; false: calibration only.
        lambdas: candidate strengths of the calibration; 0: only removal of directions.
        lambda_: one strength; a recipe gives `lambdas`.
    """

    full_rank_only: ClassVar[bool] = True
    words: Words | None = None
    spurious: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    pairs: Groups | None = None
    orthogonal: bool = True
    lambdas: Annotated[tuple[Lambda, ...], Field(min_length=1)] = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    lambda_: float = Field(default=1000.0, ge=0, allow_inf_nan=False)

    @property
    def min_sources(self) -> int:
        """Two if pairs are built from names of source environments."""
        return 2 if self.words is None and self.pairs is None else 1

    @property
    def variant(self) -> str:
        """Whether prompts are built from names of environments, and whether directions are removed."""
        own = "own prompts" if (self.words, self.spurious, self.pairs) != (None, None, None) else ""
        return ", ".join(filter(None, [own, "" if self.orthogonal else "calibrated alone"]))

    def prompts(self, names: Names) -> tuple[Prompt, ...]:
        """See `Projection.prompts`."""
        words = names.words(self.words)
        made = [Prompt(names.in_templates(word), SPURIOUS, environment=e) for word, e in words]
        alike = [
            Prompt(names.in_templates(f"{name}, {word}"), ALIKE, label, e, label)
            for label, name in enumerate(names.classes)
            for word, e in words
        ]
        spurious = made if self.spurious is None else in_groups(SPURIOUS, [self.spurious])
        return (*spurious, *(alike if self.pairs is None else in_groups(ALIKE, self.pairs)))

    def fit(self, sources: SourceMoments) -> Basis:
        """Return P, from the prompts; images stay."""
        d = np.array([a - b for group in sources.prompts(ALIKE) for a, b in combinations(group, 2)])
        if not len(d):
            raise ValueError("There are no two prompts that differ only in the spurious attribute.")
        plain = np.eye(sources.dim)
        text_vectors = np.linalg.inv(plain + self.lambda_ * (d.T @ d / len(d)))  # of I + lambda M: symmetric
        if self.orthogonal:
            q = span(np.concatenate(sources.prompts(SPURIOUS)).T, squared_length=1.0)
            text_vectors = text_vectors @ (plain - q @ q.T)  # the transpose of P
        return Basis(plain, None, np.asarray(text_vectors))
