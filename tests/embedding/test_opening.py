"""Files that lie under an image's name: named, without a child process, a socket or a word on the standard error."""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.commands.preparing.imported_sets import manifest_of
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding import opening
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage
from benchmark.recipe.loading import parse_recipe
from benchmark.store.embeddings import DEFAULT_DECODING
from tests.conftest import REPOSITORY

GEOMETRY = Geometry((48, 48), "shortest", bilinear=False, fill=0)
# Each starts a program, or holds files or references, where its own decoder is let loose on it.
DISGUISED = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) (w) file\n%%EOF\n",
    "EPS with a preview": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 64) + bytes(20) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "PS": b"%!PS\n/Helvetica findfont 9 scalefont setfont showpage\n",
    "PDF": b"%PDF-1.7\n1 0 obj << /OpenAction << /S /Launch >> >> endobj\n",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(18) + b"\x01\x00\x09\x00" + bytes(30),
    "EMF": b"\x01\x00\x00\x00" + bytes(36) + b" EMF" + bytes(60),
    "FPX": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/x'/></svg>",
    "bare SVG": b"  <svg><image href='file:///etc/passwd'/></svg>",
    "IPTC": b"\x1c\x08\x0a\x00\x01\x00" + b"%!PS-Adobe",
}
WORDS = {"EPS": "PostScript", "EPS with a preview": "PostScript", "PS": "PostScript", "PDF": "PDF", "WMF": "WMF",
         "EMF": "WMF", "FPX": "OLE", "SVG": "SVG", "bare SVG": "SVG"}  # fmt: skip


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, format_, **options)
        return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def entries_everywhere(size: int) -> bytes:
    """EXIF of `size` bytes whose every entry says that its content is all of it."""
    count = min(65_535, (size - 14) // 12)
    entries = b"".join(struct.pack("<HHII", i, 7, size - 8, 8) for i in range(count))
    return (b"II*\0" + struct.pack("<IH", 8, count) + entries).ljust(size, b"\0")


def refusal(content: bytes, formats: tuple[str, ...] = ()) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(content, GEOMETRY, DEFAULT_DECODING, formats=formats)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", DISGUISED)
def test_what_is_no_image_is_called_what_it_is(kind: str) -> None:
    reason = refusal(DISGUISED[kind])
    assert WORDS.get(kind, "no image that can be identified") in reason
    assert "JPEG, PNG, WEBP" in reason


def test_further_formats_are_asked_for_by_name_and_those_that_run_programs_never() -> None:
    icon = saved(Image.new("RGB", (48, 48), (9, 8, 7)), "ICO")
    assert "of the format ICO" in refusal(icon)
    assert decode(icon, GEOMETRY, DEFAULT_DECODING, formats=("ICO",)).getpixel((0, 0)) == (9, 8, 7)
    small = {"name": "small", "datasets": ["PACS"], "backbones": ["MiniLiT"]}
    plain = parse_recipe(small)
    assert parse_recipe({**small, "images": {"formats": ["png", "JPEG"]}}).hash() == plain.hash()
    assert parse_recipe({**small, "images": {"formats": ["ico", "PSD", "ICO"]}}).images.formats == ("ICO", "PSD")
    for name, words in (("EPS", "never decoded"), ("IPTC", "never decoded"), ("JPEG200", "mean 'JPEG2000'")):
        with pytest.raises(IcmBenchError, match=words):
            parse_recipe({**small, "images": {"formats": [name]}})
    assert "formats" not in plain.model_dump(mode="json")["images"]


def test_further_formats_count_in_what_embeddings_are_known_by(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    content = {"name": "r", "datasets": [{"name": "toy", "root": str(toy_root)}], "backbones": ["MiniLiT"]}
    plain = read_manifest(DatasetSpec(name="toy", root=str(toy_root)))
    for formats in ([], ["ico"]):
        recipe = parse_recipe({**content, "images": {"formats": formats}})
        manifest = manifest_of(recipe, recipe.located()[0])
        assert manifest.reader.formats == recipe.images.formats
        assert (manifest.fingerprint == plain.fingerprint) == (not formats)


def test_values_beyond_256_levels_are_scaled_by_their_range_or_refused() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colour = saved(Image.fromarray(np.stack([grey] * 3, axis=-1)), "PNG")
    deep = grey.astype(np.uint16) * 256 + 77
    wide = deep.astype(np.int32)
    files = {
        "PNG of 16 bits": saved(Image.fromarray(deep), "PNG"),
        "TIFF of 16 bits": saved(Image.fromarray(deep), "TIFF"),
        "the other byte order": saved(Image.fromarray(deep.astype(">u2")), "TIFF"),
        "PGM": saved(Image.fromarray(wide), "PPM"),
        "32 bits": saved(Image.fromarray(wide), "TIFF"),
        "8 bits in 16": saved(Image.fromarray(grey.astype(np.uint16)), "PNG"),
        "8 bits in 32": saved(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        "floats": saved(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "floats to 1": saved(Image.fromarray(grey / np.float32(255)), "TIFF"),
    }
    for name, content in files.items():
        pixels = decode(content, GEOMETRY, DEFAULT_DECODING)
        np.testing.assert_array_equal(
            np.asarray(pixels), np.asarray(decode(colour, GEOMETRY, DEFAULT_DECODING)), err_msg=name
        )
    for values in (wide - 40_000, wide * 9, grey / np.float32(3) - 9, grey * np.float32("nan")):
        assert "its values go from" in refusal(saved(Image.fromarray(values), "TIFF"))


def test_exif_that_refers_to_itself_over_and_over_is_refused_in_every_container() -> None:
    image, block = Image.new("RGB", (48, 48)), entries_everywhere(65_000)
    png, large = saved(image, "PNG"), entries_everywhere(2**20)
    at = png.index(b"IDAT") - 4
    several = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part
        for part in (large[i : i + 60_000] for i in range(0, len(large), 60_000))
    )
    jpeg, hexadecimal = saved(image, "JPEG"), entries_everywhere(400_000).hex()
    profile = b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n9\n{hexadecimal}".encode())
    for content in (
        saved(image, "JPEG", exif=b"Exif\0\0" + block),
        saved(image, "WEBP", exif=b"Exif\0\0" + large),
        png[:at] + chunk(b"eXIf", large) + png[at:],
        png[:at] + chunk(b"zTXt", profile) + png[at:],
        jpeg[:2] + several + jpeg[2:],
    ):
        assert "EXIF refers to" in refusal(content)
    assert refusal(entries_everywhere(2**21))  # a TIFF of nothing else


def test_a_file_is_not_read_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MAX_METADATA", 0)
    file = opening._Bounded(b"0123456789")
    for _ in range(4):
        file.seek(0)
        assert file.read() == b"0123456789"
    file.seek(0)
    with pytest.raises(UnreadableImage, match="over and over"):
        file.read()


def test_time_frames_text_and_profiles_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (48, 48))
    png = saved(image, "PNG")
    at = png.index(b"IDAT") - 4
    bomb = zlib.compress(bytes(2**26))
    for kind, head in ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        assert "too large" in refusal(png[:at] + chunk(kind, head + bomb) + png[at:])
    jpeg = saved(image, "JPEG")
    comments = (b"\xff\xfe\xff\xff" + bytes(65_533)) * 1_100
    assert "MiB beside its pixels" in refusal(jpeg[:2] + comments + jpeg[2:])
    frames = [Image.new("P", (48, 48), i) for i in range(20)]
    first = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), GEOMETRY, DEFAULT_DECODING)
    np.testing.assert_array_equal(
        np.asarray(first), np.asarray(decode(saved(frames[0], "GIF"), GEOMETRY, DEFAULT_DECODING))
    )
    monkeypatch.setattr(opening, "MAX_SECONDS", -1.0)
    assert "takes longer than" in refusal(png)


def test_what_pillow_warns_of_is_part_of_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    odd = bytearray(saved(Image.new("RGB", (48, 48)), "TIFF"))
    entries, count = struct.unpack_from("<I", odd, 4)[0], 0
    for i in range(struct.unpack_from("<H", odd, entries)[0]):
        if struct.unpack_from("<H", odd, entries + 2 + 12 * i)[0] == 277:  # samples of a pixel
            struct.pack_into("<I", odd, entries + 2 + 12 * i + 8, 65_535)
            count += 1
    assert count == 1
    assert "More samples per pixel than can be decoded" in refusal(bytes(odd))
    assert capfd.readouterr().err == ""


WATCHED = """
import os, sys, time
from pathlib import Path
begun = []
sys.addaudithook(lambda event, args: begun.append(event)
    if event.startswith(("subprocess", "os.exec", "os.posix_spawn", "os.system", "os.fork", "socket")) else None)
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage
from benchmark.store.embeddings import DEFAULT_DECODING
begun.clear()
slowest, decoded, named = 0.0, 0, 0
for name in sys.stdin.read().split("\\0"):
    start = time.process_time()
    try:
        decode(Path(name).read_bytes(), Geometry((224, 224), "shortest", False, 0), DEFAULT_DECODING)
        decoded += 1
    except UnreadableImage as error:
        assert str(error).strip() and "\\n" not in str(error), name
        named += 1
    slowest = max(slowest, time.process_time() - start)
status = Path("/proc/self/status")  # what `resource` says begins with the memory of the process that started this one
lines = status.read_text().splitlines() if status.exists() else []
peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
print(decoded, named, slowest, peak // 1024, begun)
"""


def watched(files: list[Path]) -> tuple[int, int]:
    """Decode files in a process of their own; return how many could be and how many were named."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    names = "\0".join(map(str, files))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], input=names, capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    decoded, named, slowest, memory, begun = done.stdout.split(maxsplit=4)
    assert begun.strip() == "[]"
    assert float(slowest) < 2
    assert int(memory) < 1024  # MiB; 0 where the system does not tell
    return int(decoded), int(named)


def malformed(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of files of many kinds, cut, bent and refilled; the same each time."""
    rng = np.random.default_rng(16)
    base = Image.fromarray(rng.integers(0, 256, (40, 52, 3), dtype=np.uint8))
    options: list[tuple[str, dict[str, Any]]] = [
        (kind, {}) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
    ]
    options += [("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    options += [("JPEG", {"progressive": True, "icc_profile": bytes(70_000)}), ("PNG", {"interlace": 1})]
    for kind in ("GIF", "TIFF", "WEBP", "PNG", "MPO"):
        options.append((kind, {"save_all": True, "append_images": [base.rotate(90)]}))
    for i in range(count):
        kind, more = options[i % len(options)]
        content = bytearray(saved(base.convert(("RGB", "L", "P")[i % 3]).convert("RGB"), kind, **more))
        how = i // len(options) % 4
        if how == 0:
            content = content[: int(rng.integers(1, len(content)))]
        elif how == 1:
            for place in rng.integers(0, min(len(content), 600), 6):  # heads say what is asked for
                content[place] = int(rng.integers(256))
        elif how == 2:
            start = int(rng.integers(len(content)))
            content[start : start + 40] = b"\xff" * len(content[start : start + 40])
        else:
            content += content[len(content) // 2 :] * 3
        yield str(i), bytes(content)


def test_malformed_and_disguised_files_are_decoded_or_named_in_silence(tmp_path: Path) -> None:
    files = dict(malformed(260))
    for name, content in (files | DISGUISED).items():
        (tmp_path / name).write_bytes(content)
    decoded, named = watched([tmp_path / name for name in files])
    assert decoded + named == 260
    assert min(decoded, named) > 50
    assert watched([tmp_path / name for name in DISGUISED]) == (0, len(DISGUISED))


def test_pillows_own_test_images_are_decoded_or_named_in_silence() -> None:
    """Where ICM_BENCH_PILLOW names the folder Tests/images of Pillow's source distribution."""
    if not (folder := os.environ.get("ICM_BENCH_PILLOW")):
        pytest.skip("Pillow's test images are absent (set ICM_BENCH_PILLOW to their folder)")
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    decoded, named = watched(files)
    assert decoded + named == len(files) > 1_000
    assert decoded > 600
