"""How many requests a recipe makes to the storage of its images and its store."""

from dataclasses import dataclass, replace

# Counted at an S3 server, for a first run. What is read or written whole takes one request. Of images that are files of
# their own, and of parts, the machine that has read or written them keeps copies; images of shards are read once more.
# A view is listed in every stage, and says what it holds. Sums are the moments of a view and split: written, and read
# by trials and details. Rows are written, read once, and read in the index from then on.
OF_RUN, OF_IMAGE, OF_PART, OF_VIEW, OF_SUM, OF_TRIAL = 180, 1, 1.1, 11, 3, 3
# Workers of other machines have no copies: images are read again to be decoded, under each backbone, and parts of
# embeddings to be summed.
OF_PART_FROM_AFAR = 2.3


@dataclass(frozen=True)
class Requests:
    """Requests of a run that finds nothing done.

    Attributes:
        images: number of images that lie in an object store; files of a disk are asked for by nobody.
        parts: number of parts of embeddings.
        views: number of views, under all backbones.
        sums: number of moments: of views, for each seed.
        trials: number of trials.
        charged: whether the store is an object store, which counts requests.
        from_afar: number of backbones under which other machines decode; 0 where one machine does it all.
    """

    images: int
    parts: int
    views: int
    sums: int
    trials: int
    charged: bool
    from_afar: int = 0

    @property
    def count(self) -> int:
        """All of them together; 0 where images and store lie on disks."""
        of_parts = (OF_PART_FROM_AFAR if self.from_afar else OF_PART) * self.parts + OF_VIEW * self.views
        of_store = OF_RUN + of_parts + OF_SUM * self.sums + OF_TRIAL * self.trials
        return (OF_IMAGE + self.from_afar) * self.images + round(of_store) * self.charged

    def text(self) -> str:
        """Return it in words."""
        if not self.images and not self.charged:
            return f"on s3:// or gs:// {replace(self, charged=True).count:,} requests"
        return f"{self.count:,} requests to storage"
