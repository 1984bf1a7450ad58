"""How many requests a recipe makes to the storage of its images and its store."""

from dataclasses import dataclass

# Counted at an S3 server, for a first run. Arrow asks for the size of whatever it reads: an image is read to identify
# it and to decode it; a part takes 7 requests to be written and 2 to be read.
OF_IMAGE, OF_PART, OF_TRIAL = 4, 9, 66


@dataclass(frozen=True)
class Requests:
    """Requests of a run that finds nothing done.

    Attributes:
        images: number of images that lie in an object store; files of a disk are asked for by nobody.
        parts: number of parts of embeddings.
        trials: number of trials.
        charged: whether the store is an object store, which counts requests.
    """

    images: int
    parts: int
    trials: int
    charged: bool

    @property
    def count(self) -> int:
        """All of them together; 0 where images and store lie on disks."""
        return OF_IMAGE * self.images + (OF_PART * self.parts + OF_TRIAL * self.trials if self.charged else 0)

    def text(self) -> str:
        """Return it in words."""
        if not self.images and not self.charged:
            return f"on s3:// or gs:// {Requests(self.images, self.parts, self.trials, True).count:,} requests"
        return f"{self.count:,} requests to storage"
