"""Folders in DomainBed's layout, ROOT/ENVIRONMENT/CLASS/IMAGE; without ENVIRONMENT where a set has only one.

Images that nobody labelled lie in ROOT/ENVIRONMENT/IMAGE, or all in ROOT.

A file `groups.csv` beside the environments (columns `path`, `group`) says which images belong together.
"""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import FileInfo
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
    must_be_file,
    no_file,
    oversized,
    position_of,
    reading,
)
from benchmark.datasets.readers.rows import rows_of

GROUPS_FILE = "groups.csv"


def entry_of(info: FileInfo, environment: str, class_name: str, group: str | None) -> Entry:
    """Return the image that lies in a file of its own, or should."""
    name, position = info.name, position_of(info)
    return Entry(name, environment, class_name, group, name, position, info.bytes, info.modified_ns, info.bytes)


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
                if posixpath.splitext(path)[1].lower() not in IMAGE_SUFFIXES:
                    if not info.is_folder and not posixpath.basename(path).startswith("."):
                        self.leave_out("files whose names do not end as an image's", path)
                    continue
                group = (groups or {}).get(path) or None
                if groups is not None and group is None:
                    ungrouped.append(path)
                yield entry_of(info, environment, class_name, group)
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
        files = zip(batch["file"], batch["position"], batch["bytes"], strict=True)
        return ahead(self._content, files, 1 if self.storage.is_local else REMOTE_READS)

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield files in pieces; see `ImageReader.pieces`."""
        for file, position, size in zip(batch["file"], batch["position"], batch["bytes"], strict=True):
            yield [] if no_file(position) else self._pieces(file, int(size))

    def _pieces(self, file: str, size: int) -> Iterator[bytes]:
        if not self.storage.is_local and size <= MAX_IMAGE_BYTES:
            content = self.storage.read_range(file, 0, size + 1)  # in one request
            self.storage.keep(file, content)  # to be decoded
            yield content
            return
        with self.storage.open(file) as stream, reading(self.storage.path(file)):
            while piece := stream.read(CHUNK_BYTES):
                yield piece

    def _content(self, place: tuple[Any, Any, Any]) -> bytes | str:
        file, position, size = place
        if odd := no_file(position):
            return odd
        if size > MAX_IMAGE_BYTES:
            return oversized(size)
        content = self.storage.read_range(file, 0, int(size) + 1)
        if len(content) != size:
            raise changed(self.storage.path(file))
        return content

    def _listed(self) -> Iterator[tuple[tuple[str, str, str], list[FileInfo]]]:
        """Yield each folder of a class, as `_class_folders` does, with all that lies in it."""
        folders = list(self._class_folders())
        listings = ahead(lambda folder: self.listed(folder[2], recursive=True), folders, self._listings)
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
        infos = self.listed(folder)
        for info in infos:
            if "." not in PurePosixPath(info.name).name:
                must_be_file(info, self.storage)  # it was a folder, whose images would be missed
            elif not info.is_folder and PurePosixPath(info.name).suffix.lower() in IMAGE_SUFFIXES:
                self.leave_out("images that lie in no folder of a class", info.name)
        return [PurePosixPath(info.name).name for info in infos if info.is_folder]

    def _groups(self) -> dict[str, str] | None:
        """Return path -> group from `groups.csv`, or None where there is no such file."""
        if not self.storage.exists(GROUPS_FILE):
            return None
        rows = rows_of(self.storage, GROUPS_FILE)
        file, head = next(rows)
        if {"path", "group"} - set(head) or len(set(head)) < len(head):
            raise IcmBenchError(f"{file} needs the columns 'path' and 'group' in its first line, each once.")
        groups: dict[str, str] = {}
        path, group = head.index("path"), head.index("group")
        for where, cells in rows:
            if groups.setdefault(cells[path], cells[group]) != cells[group]:
                raise IcmBenchError(f"{cells[path]!r:.200} in {where} had another group before; keep one of the two.")
        return groups
