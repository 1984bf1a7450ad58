"""How many requests a recipe makes to the storage of its images and its store."""

from dataclasses import dataclass, replace

# Counted at an S3 server, for a first run. Arrow asks for the size of whatever it reads: an image is read to identify
# it and to decode it; a part takes 7 requests to be written and 2 to be read. Sums are the moments of a view and split.
OF_RUN, OF_IMAGE, OF_PART, OF_SUM, OF_TRIAL = 110, 4, 9, 13, 26


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
        return OF_IMAGE * self.images + of_store * self.charged

    def text(self) -> str:
        """Return it in words."""
        if not self.images and not self.charged:
            return f"on s3:// or gs:// {replace(self, charged=True).count:,} requests"
        return f"{self.count:,} requests to storage"
