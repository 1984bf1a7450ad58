"""Fits single projections outside a sweep, for `export` and `diagnose`. Requires Ray and stored embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import ray
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.cluster import connect
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Normalize, scaled
from benchmark.method.evaluation.cells import HALVES, Cells
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.splits import IN, Split
from benchmark.method.subspace import Basis, Moments, Projection, SourceMoments
from benchmark.recipe.sets import InterventionSet
from benchmark.sweep.loading import MomentsSpec, cells_for, load
from benchmark.sweep.pseudo_environments import Clusters, clustered
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex

MAX_SAMPLED = 20_000  # maximum number of images in a random sample for diagnostics
FOLDS = 5  # folds of the cross-validation for the decodability of the environment


@dataclass(frozen=True)
class Choice:
    """A projection of a recipe, fitted on one subject.

    Attributes:
        subject: the data set under a backbone.
        projection: the projection, with its lambda and seed set if it has them.
        intervention_set: the intervention set of C_d; None if the projection uses no interventions.
        normalize: when embeddings are scaled to unit length.
        seed: seed of the split.
        without: environments that are left out, as if held out. Default: none.
    """

    subject: Subject
    projection: Projection
    intervention_set: InterventionSet | None
    normalize: Normalize
    seed: int
    without: tuple[str, ...] = ()

    @property
    def lambda_(self) -> float | None:
        """Weight of the consistency term; None if the projection has no lambda."""
        return getattr(self.projection, "lambda_", None)

    @property
    def clusters(self) -> Clusters | None:
        """The clusters that replace the source environments; None: the data set's environments are used."""
        count, known = self.subject.clusters, self.subject.manifest.environments
        return Clusters(count, self.seed, tuple(e for e in known if e in self.without)) if count else None

    @property
    def label(self) -> str:
        """The projection, its lambda and its intervention set as text."""
        parts = [self.projection.label]
        parts += [f"lambda {self.lambda_:g}"] if self.lambda_ is not None else []
        parts += [self.intervention_set.name] if self.intervention_set else []
        return ", ".join(parts)

    def split_words(self, folds: int | None) -> str:
        """Return a description of the fitted images. `folds`: number of folds in the recipe's rows, if any."""
        apart = f"; the recipe uses {folds} folds, so none of its rows comes from this fit" if folds else ""
        return f"in-split (80 %) of trial seed {self.seed}{apart}"

    def at_seed(self, seed: int, number: int) -> "Choice":
        """Return the choice with another seed and its draw of views; `number`: position of this seed in the recipe."""
        return replace(self, subject=self.subject.at_draw(number), seed=seed, projection=self.projection.at(seed=seed))


class Fitting:
    """Fits projections of one subject. It loads embeddings of the originals once."""

    def __init__(self, storage: Storage, subject: Subject, seeds: tuple[int, ...]) -> None:
        connect()
        self._storage = storage
        self._in_clusters: dict[Clusters, tuple[Embedded, ImageIndex]] = {}
        loaded: tuple[Embedded, ImageIndex] = tuple(ray.get(load.remote(storage, subject, tuple(map(Split, seeds)))))
        self._data, self._images = loaded

    @property
    def ids(self) -> list[str]:
        """Ids of the readable images, in the order of the embeddings."""
        return self._images.ids

    def data(self, choice: Choice) -> Embedded:
        """Return the arrays of the subject. If the choice has clusters, these are the environments."""
        return self._seen(choice)[0]

    def _seen(self, choice: Choice) -> tuple[Embedded, ImageIndex]:
        clusters = choice.clusters
        if clusters is None:
            return self._data, self._images
        if clusters not in self._in_clusters:
            self._in_clusters[clusters] = clustered(self._storage, clusters, self._data, self._images)
        return self._in_clusters[clusters]

    def moments(self, choice: Choice) -> SourceMoments:
        """Return the moments of the source environments, from their in-splits."""
        names = {i: n for i, n in enumerate(self.data(choice).environments) if n not in choice.without}
        return self._cells(choice).sources(names, choice.subject.weights_of(choice.intervention_set))

    def left_out(self, choice: Choice) -> Iterator[Moments]:
        """Yield the moments of each left-out environment, from its in-split."""
        cells = self._cells(choice)
        for i, name in enumerate(self.data(choice).environments):
            if name in choice.without and (moments := cells.sum_of(i, frozenset([IN]), HALVES)):
                yield moments

    def _cells(self, choice: Choice) -> Cells:
        of_set, split = choice.intervention_set, Split(choice.seed)
        wanted = MomentsSpec(of_set, split, choice.normalize, projection=choice.projection)
        return cells_for(self._storage, choice.subject, self._seen(choice)[1], wanted)

    def basis(self, choice: Choice) -> Basis:
        """Return the fitted basis.

        Raises:
            IcmBenchError: the projection needs more than the moments, or is not linear.
        """
        try:
            basis = choice.projection.fit(self.moments(choice))
        except ValueError as error:
            raise IcmBenchError(f"{choice.label} cannot be fitted: {error}") from error
        if not basis.is_linear:
            raise IcmBenchError(
                f"{choice.label} is not one linear map for all images, as export and diagnose require: it subtracts a "
                f"mean, or maps each environment differently; name another projection of the recipe."
            )
        return basis

    def sample(self, choice: Choice) -> NDArray[np.int64]:
        """Return up to `MAX_SAMPLED` row numbers, drawn evenly over environments with at least `FOLDS` images."""
        data = self.data(choice)
        members = [np.flatnonzero(data.environment == e) for e in range(len(data.environments))]
        members = [rows for rows in members if len(rows) >= FOLDS]
        rng, per_environment = np.random.default_rng(0), MAX_SAMPLED // max(1, len(members))
        drawn = [rng.choice(rows, min(len(rows), per_environment), replace=False) for rows in members]
        return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)

    def embeddings(self, choice: Choice, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the embeddings of some rows, scaled as the projection gets them, shape (len(rows), D)."""
        return scaled(self._data.z[rows], choice.normalize)
