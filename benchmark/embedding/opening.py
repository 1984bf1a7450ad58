"""Opening of untrusted image files: with few decoders, limits on time and memory, and no output on standard error."""

import contextlib
import ctypes
import io
import logging
import struct
import time
import warnings
from collections.abc import Iterator, Sequence

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin, _imaging  # noqa: F401  importing registers them

from benchmark.common.image_formats import FORMATS, NAMES

__all__ = ["MAX_METADATA", "MAX_SECONDS", "UnreadableImage", "opened", "orientation"]

MAX_SECONDS = 30.0  # maximum CPU time of one image, which does not depend on the machine's load; docs/data.md states it
MAX_METADATA = 64 * 2**20  # maximum bytes of EXIF, profiles and comments, stored or expanded
_LOG = logging.getLogger("PIL")
_EXIF, _RAW_EXIF = "exif", "Raw profile type exif"
# (leading bytes, description) of content that files with the name of an image may have, besides Pillow's formats.
_OTHER_KINDS = (
    (b"%!PS", "a PostScript program"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript program"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE container, as FlashPix has it"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document, as SVG drawings are"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a pointer of Git LFS, whose file was not fetched"),
    (b"/annex/objects/", "a pointer of git-annex, whose file was not fetched"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
)
# Number of a TIFF tag's type -> bytes of one value.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


with contextlib.suppress(OSError, AttributeError):  # otherwise libtiff itself writes to stderr
    _LIBRARIES = ctypes.CDLL(_imaging.__file__)
    _LIBRARIES.TIFFSetErrorHandler(None)
    _LIBRARIES.TIFFSetWarningHandler(None)


class UnreadableImage(Exception):
    """A file is not a readable image; the message is the reason."""


@contextlib.contextmanager
def opened(content: bytes, formats: Sequence[str] = ()) -> Iterator[Image.Image]:
    """Context manager that opens an image without loading it, with the decoders of `FORMATS` and of `formats`.

    `formats` are the values of `images.formats` in the recipe, by Pillow's names. They only add decoders. Readers
    choose the files, by `IMAGE_SUFFIXES` (datasets/readers/base.py).

    Raises UnreadableImage if the file has another format, is damaged, or exceeds a limit. Any error in the block
    becomes UnreadableImage, too; its message quotes Pillow's warnings. Warnings alone raise nothing.
    """
    with _captured_warnings() as warned:
        try:
            _check_jpeg(content)
            with Image.open(_Bounded(content), formats=(*FORMATS, *formats)) as image:
                yield image
        except (MemoryError, UnreadableImage):
            raise
        except UnidentifiedImageError as error:
            raise UnreadableImage(_with_warnings(_describe(content, (*FORMATS, *formats)), warned)) from error
        except Exception as error:  # decoders raise any type; other rows must not fail with this one
            raise UnreadableImage(_with_warnings(_first_line(error), warned)) from error


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 to 8; 1 (upright) if the image has none.

    Raises:
        UnreadableImage: the EXIF data exceed `MAX_METADATA`.
    """
    block = image.info.get(_EXIF) or b""
    if isinstance(raw := image.info.get(_RAW_EXIF), str) and not block:
        block = bytes.fromhex("".join(raw.split("\n")[3:]))
    _check_exif(block)
    turned = image.getexif().get(0x0112, 1)
    return turned if turned in range(1, 9) else 1


class _Bounded(io.BytesIO):
    """An in-memory file with limits on CPU time and on the total number of bytes read.

    The limits are checked in `read`, which works in any thread and on any system. This is enough: slow decoders are
    written in Python, and read a file in pieces.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = 4 * len(content) + MAX_METADATA
        self._end = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like `io.BytesIO.read`; raise UnreadableImage beyond a limit."""
        piece = super().read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise UnreadableImage("it refers to the same bytes over and over, as no sound file does")
        if time.thread_time() > self._end:
            raise UnreadableImage(f"it takes longer than the {MAX_SECONDS:.0f} s that an image may take")
        return piece


@contextlib.contextmanager
def _captured_warnings() -> Iterator[list[str]]:
    """Provide a list that collects Pillow's warnings and log messages in the block; they are not printed."""
    warned: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    propagate, _LOG.propagate = _LOG.propagate, False
    _LOG.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.showwarning = lambda message, *_args, **_more: warned.append(str(message))
            yield warned
    finally:
        _LOG.removeHandler(handler)
        _LOG.propagate = propagate


def _first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0].rstrip(".") if str(text).strip() else type(error).__name__


def _with_warnings(reason: str, warned: Sequence[str]) -> str:
    """Return a reason followed by distinct warnings of Pillow, at most three."""
    notes = [" ".join(note.split())[:200] for note in warned if note.strip()]
    notes = [note for note in dict.fromkeys(notes) if note and note not in reason]
    return f"{reason} ({'; '.join(notes[:3])})" if notes else reason


def _describe(content: bytes, formats: Sequence[str]) -> str:
    """Return a description of a file that has none of the supported formats, as a reason for its rejection."""
    names = ", ".join((NAMES, *formats[len(FORMATS) :]))
    if not content:
        return "it is empty"
    head = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    name = next((name for start, name in _OTHER_KINDS if head[: len(start)].lower() == start.lower()), None)
    if name is None:  # another format of Pillow, by its leading bytes; no decoder is called
        Image.init()
        others = ((kind, accepts) for kind, (_, accepts) in Image.OPEN.items() if kind not in formats and accepts)
        prefix = content[:16].ljust(16, b"\0")
        name = next((f"of the format {kind}" for kind, accepts in others if accepts(prefix) is True), None)
    if name is None:
        return f"it is no image that can be identified as {names}, or a damaged one"
    return f"it is {name}, and not {names}"


def _check_jpeg(content: bytes) -> None:
    """Raise UnreadableImage if a JPEG's metadata are too large. Called before Pillow, which parses EXIF on opening."""
    if not content.startswith(b"\xff\xd8\xff"):
        return
    at, total, exif = 2, 0, []
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        if content[at + 1] in (0x01, 0xFF, *range(0xD0, 0xD9)):  # markers without length
            at += 1 if content[at + 1] == 0xFF else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xE0 <= content[at + 1] <= 0xEF or content[at + 1] == 0xFE:
            total += length
            if total > MAX_METADATA:
                raise UnreadableImage(f"it has more than {MAX_METADATA >> 20} MiB beside its pixels")
            if content[at + 4 : at + 10] == b"Exif\0\0":
                exif.append(content[at + 10 : at + 2 + length])
        at += 2 + max(2, length)
    _check_exif(b"".join(exif))


def _check_exif(block: bytes) -> None:
    """Raise UnreadableImage if all values of an EXIF block together are larger than the block plus `MAX_METADATA`.

    An entry of the block has the offset and length of its value, so thousands of entries may refer to the same bytes.
    """
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return
    (at,) = struct.unpack_from(f"{order}4xI", block)
    if at + 2 > len(block):
        return
    (count,) = struct.unpack_from(f"{order}H", block, at)
    entries = block[at + 2 : at + 2 + 12 * count]
    total = 0
    for kind, number, place in struct.iter_unpack(f"{order}2xHII", entries[: len(entries) // 12 * 12]):
        size = _TYPE_BYTES.get(kind, 1) * number
        total += min(size, max(0, len(block) - place)) if size > 4 else size
    if total > len(block) + MAX_METADATA:
        raise UnreadableImage(f"its EXIF refers to {total >> 20} MiB, and has {len(block) >> 10} KiB")
