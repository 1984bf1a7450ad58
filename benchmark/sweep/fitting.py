"""One fitted projection outside of a sweep: to be exported, or looked at. Needs Ray and stored embeddings."""

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
from benchmark.sweep.loading import MomentsSpec, cells_for, load, sum_subject
from benchmark.sweep.pseudo_environments import Clusters, clustered
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex

MAX_SAMPLED = 20_000  # images that diagnostics look at one by one, drawn at random from more
FOLDS = 5  # of the cross-validation by which the environment is read


@dataclass(frozen=True)
class Choice:
    """Which projection to fit, of all that a recipe describes.

    Attributes:
        projection: with its lambda and its seed set, where it has them.
        intervention_set: which views enter the consistency term; None where the projection looks at none.
        normalize: where embeddings are scaled to unit length.
        without: environments that are left out, as if held out.
    """

    subject: Subject
    projection: Projection
    intervention_set: InterventionSet | None
    normalize: Normalize
    seed: int
    without: tuple[str, ...] = ()

    @property
    def lambda_(self) -> float | None:
        """Weight of the consistency term, None where the projection has none."""
        return getattr(self.projection, "lambda_", None)

    @property
    def clusters(self) -> Clusters | None:
        """The clusters in the place of the environments that are not left out; None where these are the set's own."""
        count, known = self.subject.clusters, self.subject.manifest.environments
        return Clusters(count, self.seed, tuple(e for e in known if e in self.without)) if count else None

    @property
    def label(self) -> str:
        """The projection with its lambda and intervention set."""
        parts = [self.projection.label]
        parts += [f"lambda {self.lambda_:g}"] if self.lambda_ is not None else []
        parts += [self.intervention_set.name] if self.intervention_set else []
        return ", ".join(parts)

    def split_words(self, folds: int | None) -> str:
        """Return in words which images are fitted on; `folds`: how many the recipe's rows are of, if any."""
        apart = f"; the recipe's rows are of {folds} folds, and none of them was made with this fit" if folds else ""
        return f"in-split (80 %) of trial seed {self.seed}{apart}"

    def at_seed(self, seed: int, number: int) -> "Choice":
        """Return the same choice with another seed, and the draw of views that this sees."""
        return replace(self, subject=self.subject.at_draw(number), seed=seed, projection=self.projection.at(seed=seed))


class Fitting:
    """Fits projections of one subject; embeddings are loaded once, and moments summed where the store lacks them."""

    def __init__(self, storage: Storage, subject: Subject, seeds: tuple[int, ...]) -> None:
        connect()
        self._storage = storage
        self._in_clusters: dict[Clusters, tuple[Embedded, ImageIndex]] = {}
        loaded: tuple[Embedded, ImageIndex] = tuple(ray.get(load.remote(storage, subject, tuple(map(Split, seeds)))))
        self._data, self._images = loaded

    @property
    def ids(self) -> list[str]:
        """Image ids of the readable images, in the order of the embeddings."""
        return self._images.ids

    def data(self, choice: Choice) -> Embedded:
        """Return the arrays of the subject, with clusters for environments where the choice has such."""
        return self._seen(choice)[0]

    def _seen(self, choice: Choice) -> tuple[Embedded, ImageIndex]:
        clusters = choice.clusters
        if clusters is None:
            return self._data, self._images
        if clusters not in self._in_clusters:
            self._in_clusters[clusters] = clustered(self._storage, clusters, self._data, self._images)
        return self._in_clusters[clusters]

    def moments(self, choice: Choice) -> SourceMoments:
        """Return the moments of the in-splits of the environments that are not left out."""
        names = {i: n for i, n in enumerate(self.data(choice).environments) if n not in choice.without}
        return self._cells(choice).sources(names, choice.subject.weights_of(choice.intervention_set))

    def left_out(self, choice: Choice) -> Iterator[Moments]:
        """Yield the moments of the in-split of each environment that is left out."""
        cells = self._cells(choice)
        for i, name in enumerate(self.data(choice).environments):
            if name in choice.without and (moments := cells.sum_of(i, frozenset([IN]), HALVES)):
                yield moments

    def _cells(self, choice: Choice) -> Cells:
        images, split = self._seen(choice)[1], Split(choice.seed)
        wanted = MomentsSpec(choice.intervention_set, split, choice.normalize, projection=choice.projection)
        sum_subject(self._storage, choice.subject, images, [wanted])
        return cells_for(self._storage, choice.subject, images, wanted)

    def basis(self, choice: Choice) -> Basis:
        """Return the fitted basis.

        Raises:
            IcmBenchError: the moments lack what the projection needs, or it is no linear map.
        """
        try:
            basis = choice.projection.fit(self.moments(choice))
        except ValueError as error:
            raise IcmBenchError(f"{choice.label} cannot be fitted: {error}") from error
        if not basis.is_linear:
            raise IcmBenchError(
                f"{choice.label} is not one linear map of all images, which is all that export and diagnose know: it "
                f"subtracts a mean, or maps each environment otherwise; name another projection of the recipe."
            )
        return basis

    def sample(self, choice: Choice) -> NDArray[np.int64]:
        """Return up to `MAX_SAMPLED` rows, drawn at random from environments alike; none of tiny environments."""
        data = self.data(choice)
        members = [np.flatnonzero(data.environment == e) for e in range(len(data.environments))]
        members = [rows for rows in members if len(rows) >= FOLDS]
        rng, most = np.random.default_rng(0), MAX_SAMPLED // max(1, len(members))
        drawn = [rng.choice(rows, min(len(rows), most), replace=False) for rows in members]
        return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)

    def embeddings(self, choice: Choice, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return embeddings as the projection sees them, shape (len(rows), D)."""
        return scaled(self._data.z[rows], choice.normalize)
