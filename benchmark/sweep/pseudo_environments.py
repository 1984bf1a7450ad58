"""Pseudo-environments: k-means clusters that replace source environments, if these are unknown or to compare both.

K-means uses the embeddings of all source images, without labels and environment names. Held-out environments are not
clustered. Splits do not depend on clusters, so test images are the same as for other methods. After a change of the
clustering, increase `CLUSTERS_VERSION` in `benchmark/store/moments.py`.
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
    """Specification of the clusters that replace the source environments of a fit.

    Attributes:
        count: number of clusters.
        seed: seed of k-means.
        held_out: environments whose images are not clustered.
    """

    count: int
    seed: int
    held_out: tuple[str, ...]

    @property
    def environments(self) -> list[str]:
        """Names of the environments that fits and rules use: the clusters, then the held-out environments."""
        return [*(f"cluster {i}" for i in range(1, self.count + 1)), *self.held_out]

    def sizes(self, images: Mapping[str, int]) -> dict[str, int]:
        """Return environment -> number of images, assuming that clusters have equal size."""
        clustered = sum(n for name, n in images.items() if name not in self.held_out)
        return {name: images.get(name, clustered // self.count) for name in self.environments}


def clustered(storage: Storage, clusters: Clusters, data: Embedded, images: ImageIndex) -> tuple[Embedded, ImageIndex]:
    """Return a data set with clusters as source environments, and its image index.

    Clusters are read from the store, or computed and stored. IcmBenchError: the sources have fewer distinct images than
    clusters.
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
    """Return the image index of a data set with clusters as source environments, and store the clusters."""
    return clustered(storage, clusters, data, images)[1]
