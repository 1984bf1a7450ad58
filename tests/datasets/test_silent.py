"""Data that would give wrong numbers without a word: each is refused in one sentence, or noted."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.commands.preparing.checks import check_held_out
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.readers.folder import FolderReader
from tests.datasets.reading import read, refusal

NAMES = b"crane\ncock\nlion\nhen\n"


def image(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def in_folders(root: Path, *classes: str) -> None:
    """Write two images of each class in two environments."""
    for number, (environment, class_name, i) in enumerate((e, c, i) for e in "ab" for c in classes for i in range(2)):
        (root / environment / class_name).mkdir(parents=True, exist_ok=True)
        (root / environment / class_name / f"{i}.png").write_bytes(image(number))


def shard(file: Path, members: list[tuple[str, bytes]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))


def in_shards(root: Path, names: bytes | None, *more: tuple[str, bytes]) -> None:
    """Write a shard with four classes by number for each of two environments, with further members."""
    for e, environment in enumerate("ab"):
        samples = [((f"{i}.png", image(4 * e + i)), (f"{i}.cls", str(i).encode())) for i in range(4)]
        shard(root / environment / "0.tar", [member for sample in samples for member in sample] + list(more))
    if names is not None:
        (root / "classnames.txt").write_bytes(names)


def shards_and_a_picture(root: Path) -> None:
    in_shards(root, NAMES)
    (root / "a" / "x.png").touch()


def with_file(root: Path, name: str, content: bytes = b"no images") -> None:
    in_folders(root, "cat", "dog")
    (root / name).write_bytes(content)


def with_link(root: Path, name: str, target: str) -> None:
    in_folders(root, "cat", "dog")
    (root / name).symlink_to(target)


def composed_and_not(root: Path) -> None:
    in_folders(root, "caf\u00e9", "dog")
    (root / "b" / "caf\u00e9").rename(root / "b" / "cafe\u0301")


def same_bytes(root: Path) -> None:
    in_folders(root, "cat", "dog")
    (root / "a" / "dog" / "0.png").write_bytes((root / "a" / "cat" / "0.png").read_bytes())


Write = Callable[[Path], None]
REFUSED: list[tuple[str, Write, str]] = [
    ("bad-7", lambda r: in_shards(r, b"crane\ncock\ncrane\nhen\n"), "gives the numbers 0 and 2 the same name 'crane'"),
    ("bad-7-blank", lambda r: in_shards(r, b"crane\n\nlion\nhen\n"), "no name for the number 1"),
    ("poor-data-2", lambda r: in_shards(r, NAMES, ("1.png", image(9)), ("1.cls", b"1")), "'cock' stands twice in"),
    (
        "cls-negative",
        lambda r: in_shards(r, None, ("9.png", image(9)), ("9.cls", b"-1")),
        "0.tar is -1, but classes are c",
    ),
    (
        "cls-no-text",
        lambda r: in_shards(r, None, ("9.png", image(9)), ("9.cls", b"\xff\xfe")),
        r"is b'\xff\xfe', which is no",
    ),
    ("poor-data-9", lambda r: with_link(r, "a/bird", "/dev/zero"), "a/bird is a pipe, a socket or a device"),
    ("poor-data-9-proc", lambda r: with_link(r, "a/bird", "/proc"), "a/bird is a pipe, a socket or a device"),
    ("poor-data-9-up", lambda r: with_link(r, "a/cat/up", "/"), "a/cat/up is a link to /, a folder that contains it"),
]
NOTED: list[tuple[str, Write, str, int]] = [  # with the number of images
    ("poor-data-3", lambda r: in_shards(r, NAMES, ("7.cls", b"1"), ("8.gif", b"")), "4 samples without an image", 8),
    ("poor-data-3-beside", shards_and_a_picture, "1 images outside of", 8),
    ("poor-data-3-suffix", lambda r: with_file(r, "a/cat/9.gif"), "1 files without an image extension", 8),
    ("poor-data-3-above", lambda r: with_file(r, "a/9.png"), "1 images outside of class folders", 8),
    ("poor-data-4", lambda r: in_shards(r, None), "4 classes have names without a letter (0, 1, 2 ...)", 8),
    ("poor-data-5-bytes", same_bytes, "the first is a/dog/0.png, which equals a/cat/0.png", 8),
    ("poor-data-6", lambda r: in_folders(r, "caf\u00e9", "cafe\u0301"), "'cafeU+0301' and 'cafU+00E9' look alike", 8),
    ("poor-data-6-case", lambda r: in_folders(r, "Cat", "cat"), "'Cat' and 'cat' look alike, or are the same in", 8),
    ("poor-data-7", lambda r: in_folders(r, "sea lion", "sea_lion"), "'sea lion' and 'sea_lion' look alike, or are", 8),
    ("poor-data-8", lambda r: in_folders(r, "___", "cat"), "1 classes have names without a letter (___)", 8),
    ("poor-data-9-image", lambda r: with_link(r, "a/cat/sys", "/sys"), "the first is a/cat/sys", 8),
    ("poor-data-10", lambda r: with_file(r, "a/cat/old.tar"), "the first is a/cat/old.tar", 8),
    ("poor-data-10-gz", lambda r: with_file(r, "a/cat/old.tar.gz"), "the first is a/cat/old.tar.gz", 8),
]


@pytest.mark.parametrize(("write", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_it_is_refused(write: Write, words: str, tmp_path: Path) -> None:
    write(tmp_path / "toy")
    assert words in refusal(tmp_path / "toy")


@pytest.mark.parametrize(("write", "words", "images"), [c[1:] for c in NOTED], ids=[case[0] for case in NOTED])
def test_it_is_noted_and_the_rest_goes_on(write: Write, words: str, images: int, tmp_path: Path) -> None:
    write(tmp_path / "toy")
    manifest = read(tmp_path / "toy")
    assert manifest.table.num_rows == images
    assert [note for note in manifest.notes() if words in note]


def test_a_path_that_a_table_has_in_two_classes_is_refused(tmp_path: Path) -> None:  # poor-data-5
    in_folders(tmp_path, "cat", "dog")
    lines = [f"{e}/{c}/{i}.png,{c},{e}" for e in "ab" for c in ("cat", "dog") for i in range(2)]
    (tmp_path / "table.csv").write_text("\n".join(["path,class,environment", *lines, "a/cat/0.png,dog,b"]))
    said = "table.csv lists a/cat/0.png again, with the environment 'b' after 'a' and the class 'dog' after 'cat'; keep"
    assert said in refusal(tmp_path, table="table.csv")


def test_names_that_only_look_like_the_class_that_is_absent_are_told(tmp_path: Path) -> None:  # poor-data-6
    composed_and_not(tmp_path / "toy")
    with pytest.raises(IcmBenchError, match=r"its 'cafU\+00E9' only looks like 'cafeU\+0301'"):
        check_held_out(read(tmp_path / "toy"))


def test_a_mark_of_order_before_the_names_is_no_letter(tmp_path: Path) -> None:  # poor-data-1
    in_shards(tmp_path / "toy", b"\xef\xbb\xbf" + NAMES)
    assert read(tmp_path / "toy").classes == ["cock", "crane", "hen", "lion"]


def test_shards_beside_a_picture_remain_shards(tmp_path: Path) -> None:
    in_shards(tmp_path / "toy", NAMES)
    for number in range(3):
        (tmp_path / "toy" / "a" / f"{number}.tar").write_bytes((tmp_path / "toy" / "a" / "0.tar").read_bytes())
    (tmp_path / "toy" / "a" / "cover.png").write_bytes(image(0))
    assert not isinstance(read(tmp_path / "toy").reader, FolderReader)


def test_two_classes_of_imagenet_with_one_word_stay_two(tmp_path: Path) -> None:
    """By position a number is a WordNet id, whatever the words are."""
    for number in (134, 517):  # both cranes
        shard(tmp_path / f"{number}.tar", [(f"{number}.png", image(number)), (f"{number}.cls", str(number).encode())])
    (tmp_path / "classnames.txt").write_text(
        "\n".join("crane" if i in (134, 517) else f"word {i}" for i in range(1000))
    )
    manifest: Manifest = read(tmp_path, "ImageNet")
    assert manifest.table["label"].to_pylist() == [134, 517]
