"""Reader of WebDataset's tar shards: the members of a sample have the same name up to the first dot.

Shards are not unpacked: their members are listed once, and images are read by offset and size.
"""

import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.common.storage.files import FileInfo
from benchmark.datasets.readers import base
from benchmark.datasets.readers.base import Batch, Entry, ImageReader

CLASS_NAMES_FILE = "classnames.txt"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_TEXT_BYTES = 2**20  # maximum size of a .cls or .json member
MAX_DIGITS = 18  # maximum digits of a class number
# Types of header blocks that hold metadata of the next member, such as a long name.
_NOTES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip


class _Header(tarfile.TarInfo):
    """A header of a tar archive. Metadata of more than `MAX_TEXT_BYTES` are refused before they are read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the header in a block of an archive; raise tarfile.ReadError if its size is not allowed."""
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _NOTES and header.size > MAX_TEXT_BYTES):
            raise tarfile.ReadError(f"a header says that {header.size} bytes follow")
        return header


@dataclass
class _Sample:
    """Members of a sample: `images` as (name, offset, size), `texts` as suffix (`cls` or `json`) -> content."""

    key: str
    images: list[tuple[str, int, int]] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class WebDatasetReader(ImageReader):
    """Reader of all tar shards below `uri`, in order of their names; `columns` names fields of .json members."""

    arrangement: ClassVar[str] = (
        "shards are ROOT/ENVIRONMENT/*.tar, where the class of a sample is in its member .cls or .json"
    )

    @classmethod
    def claims(cls, names: Sequence[str]) -> bool:
        """Claim folders with tar shards, also with compressed ones, for which `entries` raises a clear error."""
        return any(name.endswith((".tar", *COMPRESSED)) for name in names)

    def entries(self) -> Iterator[Entry]:
        """Yield the images of all shards; see `ImageReader.entries`."""
        infos = [info for info in self.listed(recursive=True) if not info.is_folder]
        for info in infos:
            if info.name.endswith(COMPRESSED):
                raise _compressed(self.storage.path(info.name))
        text_files = {info.name for info in infos if PurePosixPath(info.name).name == CLASS_NAMES_FILE}
        names = cache(self._names)
        for info in infos:
            if info.name.endswith(".tar"):
                base.must_be_file(info, self.storage)
                places = (str(parent / CLASS_NAMES_FILE) for parent in PurePosixPath(info.name).parents)
                nearest = next((place for place in places if place in text_files), None)
                class_names, paths = names(nearest) if nearest else None, set[str]()
                for sample in self._samples(info):
                    if not sample.images:
                        self.leave_out("samples without an image", f"{sample.key} in {info.name}")
                        continue
                    entry = self._entry(info, sample, class_names)
                    if entry.path in paths:
                        raise IcmBenchError(
                            f"The sample '{sample.key:.200}' of the class '{entry.class_name}' stands twice in "
                            f"{self.storage.path(info.name)}; pack it once."
                        )
                    paths.add(entry.path)
                    yield entry
            elif PurePosixPath(info.name).suffix.lower() in base.IMAGE_SUFFIXES:
                self.leave_out("images outside of the shards", info.name)

    def _names(self, file: str) -> Sequence[str] | None:
        """Return the result of `ImageReader.known_names` for a text file with one class name per line."""
        with base.reading(self.storage.path(file)):
            lines = self.storage.read_bytes(file).decode("utf-8-sig").rstrip().splitlines()
        return self.known_names(lines, self.storage.path(file))

    def read(self, batch: Batch) -> Iterator[bytes | str]:
        """Yield the images as ranges of the shards; see `ImageReader.read`."""
        return base.read_ranges(self.storage, batch)

    def pieces(self, batch: Batch) -> Iterator[Iterable[bytes]]:
        """Yield each image in pieces; see `ImageReader.pieces`."""
        if not len(batch["file"]):
            return
        file = batch["file"][0]
        with self.storage.open(file) as stream:
            for position, size in zip(batch["position"], batch["bytes"], strict=True):
                yield self._pieces(file, stream, int(position), int(size))

    def _pieces(self, file: str, stream: pa.NativeFile, position: int, size: int) -> Iterator[bytes]:
        for start in range(position, position + size, base.CHUNK_BYTES):
            with base.reading(self.storage.path(file)):
                piece = stream.read_at(min(base.CHUNK_BYTES, position + size - start), start)
            yield piece

    def _samples(self, info: FileInfo) -> Iterator[_Sample]:
        """Yield the samples of a shard. As in WebDataset, the members of a sample must be consecutive."""
        sample: _Sample | None = None
        for archive, member in self._members(info):
            name = posixpath.normpath(member.name)
            folder, file = posixpath.split(name)
            stem, _, suffix = file.partition(".")
            key = posixpath.join(folder, stem)
            if sample is None or key != sample.key:
                if sample:
                    yield sample
                sample = _Sample(key)
            suffix = suffix.lower()
            if PurePosixPath(f".{suffix}").suffix in base.IMAGE_SUFFIXES or f".{suffix}" in base.IMAGE_SUFFIXES:
                sample.images.append((name, member.offset_data, member.size))
            elif suffix in ("cls", "json"):
                place, size = self.storage.path(info.name), member.size
                if suffix in sample.texts:
                    raise IcmBenchError(f"{member.name!r:.200} stands twice in a sample of {place}; pack it once.")
                content = archive.extractfile(member)
                if content is None or size > MAX_TEXT_BYTES:
                    raise IcmBenchError(f"{member.name} in {place} has {size} bytes, too many for a text member.")
                sample.texts[suffix] = content.read()
        if sample:
            yield sample

    def _members(self, info: FileInfo) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Yield (archive, member) of the regular files of a shard; read a member before requesting the next one."""
        place = self.storage.path(info.name)
        with self.storage.open(info.name) as stream, base.reading(place):
            if stream.read(2) == b"\x1f\x8b":
                raise _compressed(place)
            stream.seek(0)
            try:
                # In an object store, the whole shard is read: one request per header would be slower.
                mode: Literal["r:", "r|"] = "r:" if self.storage.is_local else "r|"
                with tarfile.open(fileobj=stream, mode=mode, bufsize=8 * base.CHUNK_BYTES, tarinfo=_Header) as archive:
                    for member in archive:
                        archive.members = []  # type: ignore[attr-defined] # otherwise it keeps all of them
                        if member.isdir():
                            continue
                        named = f"{member.name!r:.200} in {place}"
                        if member.size < 0:
                            raise IcmBenchError(f"{named} says that it has {member.size} bytes; get it again.")
                        if not member.isreg() or member.issparse():
                            raise IcmBenchError(f"{named} is a link or another special member; pack plain files.")
                        if member.name.startswith("/") or ".." in member.name.split("/"):
                            raise IcmBenchError(f"{named} points outside of the archive; pack relative names.")
                        if member.offset_data + member.size > info.bytes:
                            raise IcmBenchError(f"{place} ends in the middle of {member.name!r:.200}; get it again.")
                        yield archive, member
                if any(self.storage.read_range(info.name, archive.offset, tarfile.BLOCKSIZE)):
                    # tarfile takes an invalid header for the end of the archive
                    raise tarfile.ReadError(f"what stands at {archive.offset} is no header")
            except (tarfile.TarError, RecursionError) as error:
                raise IcmBenchError(f"{place} is no tar archive, or a damaged one ({error}); get it again.") from error

    def _entry(self, info: FileInfo, sample: _Sample, class_names: Sequence[str] | None) -> Entry:
        shard = self.storage.path(info.name)
        if len(sample.images) > 1:
            first, second = (name for name, _, _ in sample.images[:2])
            raise IcmBenchError(
                f"{first} and {second} in {shard} are images of one sample, since their names agree up to the first "
                f"dot; a sample has one image: rename them."
            )
        ((name, offset, size),) = sample.images
        place = f"{sample.key}.json in {shard}"
        fields = from_json(sample.texts["json"], place) if "json" in sample.texts else {}
        if not isinstance(fields, dict):
            raise IcmBenchError(f"{place} must be an object with fields.")
        environment = self._environment(fields, info, name, shard)
        class_name = self._class_name(sample, fields, class_names, name, shard)
        key = base.column_of(list(fields), self.columns.group, "group", place)
        group = base.text_of(fields[key], None, f"The field '{key}' of {place}") if key else None
        path = self.named(name, environment, class_name, info.name, offset)
        return Entry(path, environment, class_name, group, info.name, offset, size, info.modified_ns, info.bytes)

    def _environment(self, fields: dict[str, Any], info: FileInfo, name: str, shard: str) -> str:
        """Return the environment: from the .json, else the shard's folder below the root, else the member's folder."""
        if self.environment:
            return self.environment
        place = f"the .json of {name} in {shard}"
        if key := base.column_of(list(fields), self.columns.environment, "environment", place):
            return base.text_of(fields[key], None, f"The field '{key}' in {place}")
        for path, depth in ((info.name, 1), (name, 2)):
            if path.count("/") >= depth:
                return path.split("/", 1)[0]
        raise IcmBenchError(
            f"{name} in {shard} has no environment; put the shard in a folder named after it, or write it into the "
            f".json members and name the field in columns.environment."
        )

    def _class_name(
        self, sample: _Sample, fields: dict[str, Any], class_names: Sequence[str] | None, name: str, shard: str
    ) -> str:
        """Return the class: from the .cls, else from the .json, else the folder of the member."""
        place = f"the sample {sample.key} in {shard}"
        if "cls" in sample.texts:
            try:
                text = sample.texts["cls"].decode().strip()
            except UnicodeDecodeError:
                raise IcmBenchError(
                    f"The .cls of {place} is {sample.texts['cls']!r:.40}, which is no text in UTF-8; write the number "
                    f"or the name of the class, and pack the shard again."
                ) from None
            if text.isdecimal() and len(text) > MAX_DIGITS:
                raise IcmBenchError(f"The .cls of {place} is a number of {len(text)} digits, which no class has.")
            if re.fullmatch(r"-\d+", text):
                raise IcmBenchError(
                    f"The .cls of {place} is {text:.40}, but classes are counted from 0; leave out samples without a "
                    f"class, and pack the shard again."
                )
            value: object = int(text) if text.isdecimal() else text
            return base.text_of(value, class_names, f"The .cls of {place}")
        if key := base.column_of(list(fields), self.columns.class_name, "class_name", place):
            return base.text_of(fields[key], class_names, f"The field '{key}' of {place}")
        if folder := posixpath.basename(posixpath.dirname(name)):
            return folder
        raise IcmBenchError(f"{place[0].upper()}{place[1:]} has no class: it needs a member .cls, or .json with one.")


def _compressed(place: str) -> IcmBenchError:
    return IcmBenchError(
        f"{place} is compressed, and images cannot be read from the middle of it; unpack it to a plain .tar."
    )
