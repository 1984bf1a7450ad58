"""Readers of folders in DomainBed's layout, ROOT/ENVIRONMENT/CLASS/IMAGE; without ENVIRONMENT if a set has only one.

The layout `corruptions` has the folders of ImageNet-C, ROOT/CORRUPTION/SEVERITY/CLASS/IMAGE. Unlabelled images are in
ROOT/ENVIRONMENT/IMAGE, or all in ROOT.

A file `groups.csv` (columns `path`, `group`) next to the environments lists images that belong together.
"""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import ClassVar

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import FileInfo
from benchmark.datasets.readers import base
from benchmark.datasets.readers.base import Batch, Entry, ImageReader
from benchmark.datasets.readers.rows import rows_of

GROUPS_FILE = "groups.csv"  # demo/emoji_styles.py writes a file of this name


def entry_of(info: FileInfo, environment: str, class_name: str, group: str | None) -> Entry:
    """Return the entry of something with the name of an image: a whole file, or by mistake a link or a folder."""
    name, position = info.name, base.position_of(info)
    return Entry(name, environment, class_name, group, name, position, info.bytes, info.modified_ns, info.bytes)


class FolderReader(ImageReader):
    """Reader of the layout `folder`: one file per image."""

    arrangement: ClassVar[str] = "the layout is ROOT/ENVIRONMENT/CLASS/IMAGE"

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:
        """Claim folders that contain files with an image extension."""
        return any(PurePosixPath(name).suffix.lower() in base.IMAGE_SUFFIXES for name in names)

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the order of torchvision's ImageFolder; see `ImageReader.entries`."""
        # Unlabelled images next to labelled ones are not split, so they need no groups.
        beside = self.unlabelled and not self.labelled
        groups = None if beside else self._groups()
        ungrouped = []
        folders, at_once = list(self._class_folders()), 1 if self.storage.is_local else base.REMOTE_LISTINGS
        listings = base.ahead(lambda folder: self.listed(folder[2], recursive=True), folders, at_once)
        for (environment, class_name, _), infos in zip(folders, listings, strict=True):
            for info in infos:
                path = info.name
                if posixpath.splitext(path)[1].lower() not in base.IMAGE_SUFFIXES:
                    if not info.is_folder and not posixpath.basename(path).startswith("."):
                        self.leave_out("files without an image extension", path)
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
        """Return environments and classes that have folders, also empty ones: DomainBed numbers environment folders."""
        environments = [self.environment] if self.environment else self._environments()
        return environments, sorted({class_name for _, class_name, _ in self._class_folders()})

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield whole files; see `ImageReader.read`."""
        return base.read_ranges(self.storage, batch)

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield files in pieces; see `ImageReader.pieces`."""
        for file, position, size in zip(batch["file"], batch["position"], batch["bytes"], strict=True):
            yield [] if base.no_file(position) else self._pieces(file, int(size))

    def _pieces(self, file: str, size: int) -> Iterator[bytes]:
        if not self.storage.is_local and size <= base.MAX_IMAGE_BYTES:
            content = self.storage.read_range(file, 0, size + 1)  # in one request; a longer file is detected as changed
            self.storage.keep(file, content)  # caches the file, which is decoded later
            yield content
            return
        with self.storage.open(file) as stream, base.reading(self.storage.path(file)):
            while piece := stream.read(base.CHUNK_BYTES):
                yield piece

    def _class_folders(self) -> Iterator[tuple[str, str, str]]:
        """Yield (environment, class, folder) for each folder of a class.

        For unlabelled images, yield the folder of each environment, or the root if it has no subfolders.
        """
        if not self.labelled:
            folders = self._environments() if self.unlabelled else self._subfolders("") or [""]
            yield from ((name or base.WHOLE, base.NO_CLASS, name) for name in folders)
            return
        environments = [""] if self.environment else self._environments()
        listings = base.ahead(self._subfolders, environments, 1 if self.storage.is_local else base.REMOTE_LISTINGS)
        for environment, classes in zip(environments, listings, strict=True):
            for class_name in classes:
                yield self.environment or environment, class_name, f"{environment}/{class_name}".lstrip("/")

    def _environments(self) -> list[str]:
        """Return the names of the environments to read, which are folders below the root."""
        return [name for name in self._subfolders("") if self.takes(name)]

    def _subfolders(self, folder: str) -> list[str]:
        infos = self.listed(folder)
        for info in infos:
            if "." not in PurePosixPath(info.name).name:
                base.must_be_file(info, self.storage)  # otherwise a broken link to a folder would be skipped silently
            elif not info.is_folder and PurePosixPath(info.name).suffix.lower() in base.IMAGE_SUFFIXES:
                self.leave_out("images outside of class folders", info.name)
        return [PurePosixPath(info.name).name for info in infos if info.is_folder]

    def _groups(self) -> dict[str, str] | None:
        """Return path -> group from `groups.csv`; None if the file does not exist."""
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


class CorruptionsReader(FolderReader):
    """Reader of the layout `corruptions`: corrupted copies, ROOT/CORRUPTION/SEVERITY/CLASS/IMAGE, as in ImageNet-C.

    A pair of corruption and severity is an environment. All copies of an image (with equal class and file name) are a
    group, so that no tested image is in the training set under another corruption.
    """

    arrangement: ClassVar[str] = "the layout is ROOT/CORRUPTION/SEVERITY/CLASS/IMAGE"

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:  # noqa: ARG003
        """Never detect this layout: its folders look like environments with numbered classes. A recipe must name it."""
        return False

    def entries(self) -> Iterator[Entry]:
        """Yield the images in the order of torchvision's ImageFolder; see `ImageReader.entries`."""
        for entry in super().entries():
            yield replace(entry, group=entry.group or f"{entry.class_name}/{PurePosixPath(entry.path).stem}")

    def _environments(self) -> list[str]:
        return [f"{corruption}/{name}" for corruption in self._subfolders("") for name in self._subfolders(corruption)]
