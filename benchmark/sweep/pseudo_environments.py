"""Clusters in the place of source environments: for whoever does not know these, or wants to know what they are worth.

K-means sees the embeddings of the source images alone, all of them, and neither label nor name of an environment. What
is held out is not clustered: it stays an environment of the data set, with the images that every other method is tested
on, for sides of splits do not know of clusters either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.embedded import Embedded, k_means
from benchmark.store.moments import clusters_file, read_clusters, write_clusters
from benchmark.sweep.summing import ImageIndex


@dataclass(frozen=True)
class Clusters:
    """Which clusters a fit has for source environments.

    Attributes:
        count: number of clusters.
        seed: of the clustering.
        held_out: environments whose images are not clustered.
    """

    count: int
    seed: int
    held_out: tuple[str, ...]

    @property
    def environments(self) -> list[str]:
        """What fits and rules have for environments: the clusters, then what is held out."""
        return [*(f"cluster {i}" for i in range(1, self.count + 1)), *self.held_out]

    def sizes(self, images: Mapping[str, int]) -> dict[str, int]:
        """Return the number of images of each of `environments`, as if clusters were of one size."""
        clustered = sum(n for name, n in images.items() if name not in self.held_out)
        return {name: images.get(name, clustered // self.count) for name in self.environments}


def clustered(storage: Storage, clusters: Clusters, data: Embedded, images: ImageIndex) -> tuple[Embedded, ImageIndex]:
    """Return a data set with clusters in the place of its source environments.

    The store is asked for the clusters first, and has them from then on.
    Raises IcmBenchError where the sources have fewer different images than there are to be clusters.
    """
    numbers = {name: clusters.count + i for i, name in enumerate(clusters.held_out)}
    environment = np.array([numbers.get(name, -1) for name in data.environments], dtype=np.int64)[data.environment]
    sources = np.flatnonzero(environment < 0)
    file = clusters_file(images.original, [images.ids[i] for i in sources], clusters.count, clusters.seed)
    made = read_clusters(storage, file, len(sources), clusters.count)
    if made is None:
        try:
            made = k_means(data.z[sources], clusters.count, clusters.seed)
        except ValueError as error:
            raise IcmBenchError(f"environments: cluster:{clusters.count}: {error} Give fewer clusters.") from error
        write_clusters(storage, file, made)
    environment[sources] = made
    data = replace(data, environment=environment, environments=clusters.environments)
    layouts = {split: data.layout(split) for split in images.layouts}
    return data, replace(images, layouts=layouts, environments=clusters.environments)


@remote()
def index_in_clusters(storage: Storage, clusters: Clusters, data: Embedded, images: ImageIndex) -> ImageIndex:
    """Return where the images of a data set lie with clusters for source environments; the store then has these."""
    return clustered(storage, clusters, data, images)[1]
