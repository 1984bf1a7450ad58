"""How many requests a recipe makes to the storage of its images and its store."""

from dataclasses import dataclass, replace

# Counted at an S3 server, for a first run. What is read or written whole takes one request. An image is read to
# identify it and to decode it; a part is written, looked for with its like, and read by sums and, of originals, by
# trials. Sums are the moments of a view and split. Rows are written, read once, and read in the index from then on.
OF_RUN, OF_IMAGE, OF_PART, OF_SUM, OF_TRIAL = 200, 2, 2.3, 3, 3


@dataclass(frozen=True)
class Requests:
    """Requests of a run that finds nothing done.

    Attributes:
        images: number of images that lie in an object store; files of a disk are asked for by nobody.
        parts: number of parts of embeddings.
        sums: number of moments: of views, for each seed.
        trials: number of trials.
        charged: whether the store is an object store, which counts requests.
    """

    images: int
    parts: int
    sums: int
    trials: int
    charged: bool

    @property
    def count(self) -> int:
        """All of them together; 0 where images and store lie on disks."""
        of_store = OF_RUN + OF_PART * self.parts + OF_SUM * self.sums + OF_TRIAL * self.trials
        return OF_IMAGE * self.images + round(of_store) * self.charged

    def text(self) -> str:
        """Return it in words."""
        if not self.images and not self.charged:
            return f"on s3:// or gs:// {replace(self, charged=True).count:,} requests"
        return f"{self.count:,} requests to storage"
