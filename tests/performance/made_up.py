"""A reader that lists images which nobody has: for measuring how lists of millions of images are handled."""

from collections.abc import Iterable, Iterator

from benchmark.datasets.readers.base import Batch, Entry, ImageReader

ENVIRONMENTS, CLASSES = 6, 345  # as DomainNet has
BYTES = 7  # of each image


class MadeUpReader(ImageReader):
    """Lists as many images as the last part of its URI says; what they are is their number."""

    def entries(self) -> Iterator[Entry]:
        """Yield every image, environment by environment and class by class."""
        count = int(self.uri.rpartition("/")[2])
        for number in range(count):
            place, image = divmod(number, -(-count // (ENVIRONMENTS * CLASSES)))
            environment, class_name = f"env{place // CLASSES}", f"class_{place % CLASSES:03d}"
            path = f"{environment}/{class_name}/{image:07d}.jpg"
            yield Entry(path, environment, class_name, None, path, -1, BYTES, 1, BYTES)

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield what is no image."""
        yield from (b"".join(pieces) for pieces in self.pieces(batch))

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield the last part of each path."""
        yield from ([path[-4 - BYTES : -4].encode()] for path in batch["path"])
