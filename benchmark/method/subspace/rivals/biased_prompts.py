"""Debiasing of texts by prompts: spurious directions are removed, and pairs of prompts calibrate the rest.

    P = P_0 (I + lambda M)^-1,    t^ = P t,    P_0 = I - Q Q^T

    Q   an orthonormal basis of the span of the spurious prompts
    M   (1/|S|) sum over S of (p_i - p_j)(p_i - p_j)^T, S all pairs that differ only in the spurious attribute

P minimises |P - P_0|^2 + (lambda / |S|) sum over S of |P p_i - P p_j|^2, with prompts at unit length. The map is
applied to texts only and fitted on prompts only; image embeddings are neither changed nor used. The method is by Chuang
et al. (2023, arXiv 2302.00070). With lambda 0, P is their orthogonal projection P_0; the default in their code is 1000.
They write prompts for each data set. Here prompts are built from names by default: a spurious prompt names a source
environment ("a photo of a sketch."), and a pair names a class with two environments ("a photo of a dog, sketch.").
"""

from itertools import combinations
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.prompts import Names, Prompt, in_groups
from benchmark.method.subspace.basis import Basis, Projection, span
from benchmark.method.subspace.moments import SourceMoments
from benchmark.method.subspace.shrinkage import Lambda

Text = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[Text, ...], Field(min_length=2)]
Groups = Annotated[tuple[Words, ...], Field(min_length=1)]
SPURIOUS, ALIKE = "spurious", "alike"  # roles of prompts


class BiasedPrompts(Projection, label="Debiasing by prompts", role="rival", place=7):
    """Texts without spurious directions, calibrated by prompt pairs (Chuang et al. 2023); a rule chooses lambda.

    Every fit uses the prompts and words of the recipe, so they must not describe the target.

    Fields:
        words: two or more words for environments, from which prompts are built. Default: the names of the source
            environments in the recipe's templates.
        spurious: whole prompts whose directions are removed. Default: one prompt for each word.
        pairs: lists of whole prompts that differ only in the spurious attribute. All pairs within a list are used.
            Default: one list for each class in the fit, with its name and each word.
        orthogonal: whether spurious directions are removed before the calibration, as published. Default true; with
            false, texts are only calibrated.
        lambdas: candidate strengths of the calibration; with 0, spurious directions are removed and nothing is
            calibrated.
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
        """Minimum number of source environments: two if pairs are built from their names."""
        return 2 if self.words is None and self.pairs is None else 1

    @property
    def variant(self) -> str:
        """The origin of prompts and whether directions are removed, as text."""
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
        """Return the map P of texts, computed from the prompts. Images are unchanged."""
        d = np.array([a - b for group in sources.prompts(ALIKE) for a, b in combinations(group, 2)])
        if not len(d):
            raise ValueError("There are no two prompts that differ only in the spurious attribute.")
        plain = np.eye(sources.dim)
        text_vectors = np.linalg.inv(plain + self.lambda_ * (d.T @ d / len(d)))  # of I + lambda M, which is symmetric
        if self.orthogonal:
            q = span(np.concatenate(sources.prompts(SPURIOUS)).T, squared_length=1.0)
            text_vectors = text_vectors @ (plain - q @ q.T)  # the transpose of P
        return Basis(plain, None, np.asarray(text_vectors))
