"""Folders of corrupted copies, ROOT/CORRUPTION/SEVERITY/CLASS/IMAGE, as ImageNet-C has them.

A corruption and its severity are an environment, CORRUPTION/SEVERITY. All copies of an image are a group: they have its
class and its file name, and one that is tested must not have been fitted on under another corruption.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from benchmark.datasets.readers.base import Entry
from benchmark.datasets.readers.folder import FolderReader


class CorruptionsReader(FolderReader):
    """One file for each copy of an image."""

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:  # noqa: ARG003
        """Claim nothing: such folders look like environments whose classes are numbers."""
        return False

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the order of torchvision's ImageFolder; see `ImageReader.entries`."""
        for entry in super().entries():
            yield replace(entry, group=entry.group or f"{entry.class_name}/{PurePosixPath(entry.path).stem}")

    def _environments(self) -> list[str]:
        return [f"{corruption}/{name}" for corruption in self._subfolders("") for name in self._subfolders(corruption)]
