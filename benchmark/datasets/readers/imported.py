"""Images that are known by their embeddings alone, which were imported: none of them can be opened."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.readers.base import Batch, Entry, ImageReader


@dataclass(frozen=True)
class ImportedReader(ImageReader):
    """Stands for images that are not at hand; `uri` is the folder of the store that says what is known of them."""

    @property
    def local_folder(self) -> Path | None:
        """No folder: there are no images in any."""
        return None

    def place(self, path: str, file: str | None = None) -> str:  # noqa: ARG002
        """Return how a person would name an image: by its path alone, since it lies nowhere."""
        return path

    def entries(self) -> Iterator[Entry]:
        """Raise IcmBenchError: images are listed by the store."""
        raise self._absent()

    def read(self, batch: Batch) -> Iterator[bytes | str]:  # noqa: ARG002
        """Raise IcmBenchError: there is no image to be read."""
        raise self._absent()

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:  # noqa: ARG002
        """Raise IcmBenchError: there is no image to be read."""
        raise self._absent()

    def _absent(self) -> IcmBenchError:
        return IcmBenchError(
            f"The images of {self.storage.path('').rstrip('/')} are not at hand, since their embeddings were imported; "
            f"name the images by another layout to open them."
        )
