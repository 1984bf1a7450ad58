"""A layout from outside of the package, for tests: one folder of files that are called ENVIRONMENT--CLASS--NAME.png."""

from collections.abc import Iterable, Iterator, Sequence

from benchmark.datasets.readers import Entry, ImageReader
from benchmark.datasets.readers.base import Batch


class FlatReader(ImageReader):
    """One file for each image, all in one folder."""

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:
        """Claim a folder whose files have names in three parts."""
        return any(name.count("--") == 2 for name in names)

    def entries(self) -> Iterator[Entry]:
        """Yield the images; their names say what they are."""
        for info in self.storage.listing():
            environment, class_name, name = info.name.split("--")
            path = self.named(name, environment, class_name, info.name, -1)
            yield Entry(path, environment, class_name, None, info.name, -1, info.bytes, info.modified_ns, info.bytes)

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield whole files."""
        return (self.storage.read_bytes(file) for file in batch["file"])

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield whole files, each in one piece."""
        return ([self.storage.read_bytes(file)] for file in batch["file"])
