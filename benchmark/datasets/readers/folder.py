"""Folders in DomainBed's layout, ROOT/ENVIRONMENT/CLASS/IMAGE; without ENVIRONMENT where a set has only one.

Images that nobody labelled lie in ROOT/ENVIRONMENT/IMAGE, or all in ROOT.

A file `groups.csv` beside the environments (columns `path`, `group`) says which images belong together.
"""

import csv
import io
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import FileInfo
from benchmark.datasets.readers.base import (
    CHUNK_BYTES,
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    NO_CLASS,
    REMOTE_LISTINGS,
    REMOTE_READS,
    WHOLE,
    Batch,
    Entry,
    ImageReader,
    ahead,
    changed,
    oversized,
    reading,
)

GROUPS_FILE = "groups.csv"


class FolderReader(ImageReader):
    """One file for each image."""

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:
        """Claim a folder that holds images."""
        return any(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in names)

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the order of torchvision's ImageFolder; see `ImageReader.entries`."""
        beside = self.unlabelled and not self.labelled  # they take part in no split
        groups = None if beside else self._groups()
        ungrouped = []
        for (environment, class_name, _), infos in self._listed():
            for info in infos:
                path = info.name
                if info.is_folder or posixpath.splitext(path)[1].lower() not in IMAGE_SUFFIXES:
                    continue
                group = (groups or {}).get(path) or None
                if groups is not None and group is None:
                    ungrouped.append(path)
                yield Entry(path, environment, class_name, group, path, -1, info.bytes, info.modified_ns, info.bytes)
        if ungrouped:
            raise IcmBenchError(
                f"{self.storage.path(GROUPS_FILE)} names no group for {min(ungrouped)} "
                f"({len(ungrouped)} images in all)."
            )

    def folders(self) -> tuple[list[str], list[str]]:
        """Return environments and classes by their folders: DomainBed numbers environments by folder."""
        environments = [self.environment] if self.environment else self._environments()
        return environments, sorted({class_name for _, class_name, _ in self._class_folders()})

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield whole files; see `ImageReader.read`."""
        files = zip(batch["file"], batch["bytes"], strict=True)
        return ahead(self._content, files, 1 if self.storage.is_local else REMOTE_READS)

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield files in pieces; see `ImageReader.pieces`."""
        for file, size in zip(batch["file"], batch["bytes"], strict=True):
            yield self._pieces(file, int(size))

    def _pieces(self, file: str, size: int) -> Iterator[bytes]:
        if not self.storage.is_local and size <= MAX_IMAGE_BYTES:
            yield self.storage.read_range(file, 0, size + 1)  # in one request
            return
        with self.storage.open(file) as stream, reading(self.storage.path(file)):
            while piece := stream.read(CHUNK_BYTES):
                yield piece

    def _content(self, place: tuple[Any, Any]) -> bytes | str:
        file, size = place
        if size > MAX_IMAGE_BYTES:
            return oversized(size)
        content = self.storage.read_range(file, 0, int(size) + 1)
        if len(content) != size:
            raise changed(self.storage.path(file))
        return content

    def _listed(self) -> Iterator[tuple[tuple[str, str, str], list[FileInfo]]]:
        """Yield each folder of a class, as `_class_folders` does, with all that lies in it."""
        folders = list(self._class_folders())
        listings = ahead(lambda folder: self.storage.listing(folder[2], recursive=True), folders, self._listings)
        yield from zip(folders, listings, strict=True)

    @property
    def _listings(self) -> int:
        """Number of folders that are listed at a time: in an object store each takes a round trip."""
        return 1 if self.storage.is_local else REMOTE_LISTINGS

    def _class_folders(self) -> Iterator[tuple[str, str, str]]:
        """Yield (environment, class, folder); without classes the folder of the environment, or the whole root."""
        if not self.labelled:
            folders = self._environments() if self.unlabelled else self._subfolders("") or [""]
            yield from ((name or WHOLE, NO_CLASS, name) for name in folders)
            return
        environments = [""] if self.environment else self._environments()
        for environment, classes in zip(
            environments, ahead(self._subfolders, environments, self._listings), strict=True
        ):
            for class_name in classes:
                yield self.environment or environment, class_name, f"{environment}/{class_name}".lstrip("/")

    def _environments(self) -> list[str]:
        """Return the folders of the environments that are read, from the root on."""
        return [name for name in self._subfolders("") if self.takes(name)]

    def _subfolders(self, folder: str) -> list[str]:
        names = [PurePosixPath(info.name).name for info in self.storage.listing(folder) if info.is_folder]
        return [name for name in names if not name.startswith(".")]

    def _groups(self) -> dict[str, str] | None:
        """Return path -> group from `groups.csv`, or None where there is no such file."""
        if not self.storage.exists(GROUPS_FILE):
            return None
        file = self.storage.path(GROUPS_FILE)
        try:
            text = self.storage.read_bytes(GROUPS_FILE).decode("utf-8-sig")
            reader = csv.DictReader(io.StringIO(text, newline=""))
            if not {"path", "group"} <= set(reader.fieldnames or ()):
                raise IcmBenchError(f"{file} needs the columns 'path' and 'group' in its first line.")
            return {row["path"]: row["group"] for row in reader}
        except (UnicodeDecodeError, csv.Error) as error:
            raise IcmBenchError(f"{file} is not CSV in UTF-8 ({error}); save it as that.") from error
