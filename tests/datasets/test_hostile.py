"""Data sets from somebody else: links, pipes, folders under names of images, packed files that say too much."""

import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest
from benchmark.datasets.readers.parquet import ROWS_AT_ONCE, _rows_at_once
from tests.datasets.reading import IMAGE, read, refusal


def contents(manifest: Manifest) -> dict[str, bytes | str]:
    rows = manifest.table.to_pydict()
    return dict(zip(rows["path"], manifest.reader.read(rows), strict=True))


def test_what_is_no_file_under_the_name_of_an_image_is_a_bad_image_and_never_opened(toy_root: Path) -> None:
    sound = contents(read(toy_root))
    folder = toy_root / "env0" / "cat"
    (folder / "annex.png").symlink_to("../../.git/annex/objects/xyz")
    (folder / "itself.png").symlink_to("itself.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(folder)  # such a name is short
        end.bind("socket.png")
    os.chdir("/")
    (folder / "note.txt").symlink_to("nothing")  # no image by its name either
    manifest = read(toy_root)
    odd = {path: content for path, content in contents(manifest).items() if path not in sound}
    assert odd == {
        "env0/cat/annex.png": odd["env0/cat/itself.png"],
        "env0/cat/itself.png": odd["env0/cat/annex.png"],
        "env0/cat/pipe.jpg": "it is a pipe, a socket or a device, and no file",
        "env0/cat/device.jpg": odd["env0/cat/pipe.jpg"],
        "env0/cat/socket.png": odd["env0/cat/pipe.jpg"],
        "env0/cat/folder.jpg": "it is a folder, and no file",
    }
    assert str(odd["env0/cat/annex.png"]).startswith("it is a broken link, as left by DVC and git-annex")
    assert {path: content for path, content in contents(manifest).items() if path in sound} == sound
    assert all("same bytes in another" not in note for note in manifest.notes())
    assert contents(read(toy_root)) == contents(manifest)  # from what is remembered of the files


def test_a_table_names_what_is_no_file_too(toy_root: Path) -> None:
    os.mkfifo(toy_root / "env0" / "cat" / "pipe.png")
    (toy_root / "env0").rename(toy_root / ".env0")  # what a table names is there, hidden or not
    folders = (".env0", "env1", "env2")
    lines = [f"{e}/{c}/{i}.png,{c},{e}" for e in folders for c in ("cat", "dog") for i in range(3)]
    (toy_root / "table.csv").write_text("\n".join(["path,label,environment", *lines, ".env0/cat/pipe.png,cat,.env0"]))
    found = contents(read(toy_root, layout="table"))
    assert found[".env0/cat/pipe.png"] == "it is a pipe, a socket or a device, and no file"
    assert sum(isinstance(content, bytes) for content in found.values()) == 18


def test_packed_files_that_are_none_are_named(tmp_path: Path) -> None:
    for name in ("0.tar", "0.parquet"):
        root = tmp_path / name[2:]
        (root / "env0").mkdir(parents=True)
        (root / "env0" / name).symlink_to("nothing")
        (root / "env1").mkdir()
        os.mkfifo(root / "env1" / name)
        layout = {"tar": "webdataset", "parquet": "parquet"}[name[2:]]
        assert f"env0/{name} is a broken link" in refusal(root, layout=layout)
        (root / "env0" / name).unlink()
        assert f"env1/{name} is a pipe" in refusal(root)


@pytest.mark.parametrize("place", ["env0/up", "env0/cat/up", "env0/cat/up.jpg", "up"])
def test_a_link_to_a_folder_above_is_refused(toy_root: Path, place: str) -> None:
    (toy_root / place).symlink_to(toy_root.parent if place == "up" else toy_root)
    assert f"{toy_root / place} is a link to" in refusal(toy_root)


def test_links_that_lead_to_each_other_are_refused_and_those_aside_are_followed(toy_root: Path, tmp_path: Path) -> None:
    before = read(toy_root).table.num_rows
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "9.png").write_bytes((toy_root / "env0" / "cat" / "0.png").read_bytes())
    (toy_root / "env1" / "cat" / "more").symlink_to(tmp_path / "more")
    assert read(toy_root).table.num_rows == before + 1
    (tmp_path / "more" / "back").symlink_to(toy_root / "env1" / "cat")
    assert "more/back is a link to" in refusal(toy_root)


def test_a_folder_that_is_a_link_to_nothing_is_not_passed_over(toy_root: Path) -> None:
    for place in ("env3", "env0/cow"):
        (toy_root / place).symlink_to("nothing")
        assert f"{toy_root / place} is a broken link" in refusal(toy_root)
        (toy_root / place).unlink()


def test_hidden_folders_and_those_of_macos_are_passed_over_with_a_note(toy_root: Path) -> None:
    plain = read(toy_root)
    image = (toy_root / "env0" / "cat" / "0.png").read_bytes()
    for place in ("__MACOSX/env0/cat", ".thumbs/x/cat", "env0/.cache/x", "env0/cat/__MACOSX", "env1/dog/.old"):
        (toy_root / place).mkdir(parents=True)
        (toy_root / place / "._1.png").write_bytes(image)
    (toy_root / "__MACOSX" / "._0.tar").write_bytes(b"no tar")
    manifest = read(toy_root)
    assert manifest.fingerprint == plain.fingerprint
    (note,) = set(manifest.notes()) - set(plain.notes())
    assert "skipped hidden folders: .thumbs, __MACOSX, env0/.cache and 2 more" in note


def test_a_layout_one_level_too_high_gets_a_sentence(toy_root: Path) -> None:
    assert f"{toy_root / 'env0' / 'cat' / '0.png'} seems to lie one level too high" in refusal(toy_root / "env0")


def test_groups_that_are_said_twice_are_refused(toy_root: Path) -> None:
    lines = [f"{p.relative_to(toy_root).as_posix()},g{i}" for i, p in enumerate(sorted(toy_root.rglob("*.png")))]
    file = toy_root / "groups.csv"
    file.write_text("\n".join(["path,group", *lines, lines[0]]))
    assert read(toy_root).groups
    for text, sentence in (
        (["path,group", *lines, lines[0] + "x"], "'env0/cat/0.png' in line 38 of .* had another group before"),
        (["path,group,path", *lines], "needs the columns 'path' and 'group' in its first line, each once"),
        (["path,group", *lines[:-1], lines[-1] + ",x"], "Line 37 of .* has 3 cells and the head 2"),
        (["path,group", *lines[:-1], '"' + lines[-1]], "Line 37 of .* has a quote that is not closed"),
        (["path,group", *lines, "x" * 200_000 + ",g"], "Line 38 of .* .field larger than .* shorten the cell"),
        (["path,group", *lines[:-1], lines[-1] + "\udcff"], "groups.csv is not UTF-8"),
    ):
        file.write_text("\n".join(text), errors="surrogateescape")
        with pytest.raises(IcmBenchError, match=sentence):
            read(toy_root)


def shard(file: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.read_bytes()


def named(name: str, **headers: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = headers
    return member


SPECIAL_MEMBERS = {
    "doubled": ([(named("p/c/1.png"), b"1"), (named("./p/c/1.png"), b"3")], "are images of one sample"),
    "bad-8, a class of 6,000 digits": ([(named("p/c/1.cls"), b"9" * 6000), (named("p/c/1.png"), b"1")], "6000 digits"),
    "a doubled text": ([(named("p/c/1.cls"), b"a"), (named("p/c/1.png"), b"1"), (named("./p/c/1.cls"), b"b")], "stands twice"),
    "sparse": ([(named("p/c/1.png", **{"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}), b"1")], "special member"),
    "a size below nothing": ([(named("p/c/1.png", size="-512"), b"1" * 600), (named("p/c/2.png"), b"2")], "has -512 bytes"),
    "too large": ([(named("p/c/1.png", size=str(2**50)), b"1")], "ends in the middle|a damaged one"),
    "no number": ([(named("p/c/1.png", size="x"), b"1")], "a damaged one|no images|one class"),
    "a note too long": ([(named("p/c/1.png", comment="x" * 2**21), b"1")], "2097[0-9]* bytes follow"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECIAL_MEMBERS)
def test_shards_that_say_too_much_are_refused(tmp_path: Path, kind: str) -> None:
    members, sentence = SPECIAL_MEMBERS[kind]
    shard(tmp_path / "0.tar", members)
    with pytest.raises(IcmBenchError, match=sentence):
        read(tmp_path)


def test_notes_upon_notes_and_a_damaged_header_are_no_end_of_a_shard(tmp_path: Path) -> None:
    file = tmp_path / "0.tar"
    whole = shard(file, [(named(f"p/{c}/{i}.png"), b"1" * 600) for c in "cd" for i in range(3)])
    assert read(tmp_path).table.num_rows == 6
    bent = bytearray(whole)
    bent[3 * 1536 + 148] ^= 1  # of the checksum
    file.write_bytes(bent)
    assert "what stands at 4608 is no header" in refusal(tmp_path)
    notes = shard(tmp_path / "notes" / "1.tar", [(named("p/c/1.png", comment="x"), b"1")])[:1024]
    (tmp_path / "notes" / "1.tar").write_bytes(notes * 3_000 + whole)
    assert "1.tar" in refusal(tmp_path / "notes")


def table(images: list[bytes], **columns: Any) -> pa.Table:
    rows = {"image": pa.array([{"bytes": image, "path": None} for image in images], IMAGE)}
    return pa.table(rows | {"label": ["cat", "dog"] * (len(images) // 2), "domain": ["p"] * len(images)} | columns)


def test_a_dictionary_of_one_long_image_is_not_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.datasets.readers.base.MAX_IMAGE_BYTES", 2**21)
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([bytes(2**20)]))
    content = table([b""] * 64).set_column(0, "image", pa.StructArray.from_arrays([images], ["bytes"]))
    pq.write_table(content, tmp_path / "0.parquet", dictionary_pagesize_limit=2**30, store_schema=False)
    assert (tmp_path / "0.parquet").stat().st_size < 2**18  # 64 MiB, written out
    assert read(tmp_path).table["bytes"].to_pylist() == [2**20] * 64
    assert _rows_at_once(pq.read_metadata(tmp_path / "0.parquet").row_group(0), "image.bytes") == 1
    pq.write_table(table([b"1", b"2"] * 32), tmp_path / "0.parquet")
    assert _rows_at_once(pq.read_metadata(tmp_path / "0.parquet").row_group(0), "image.bytes") == ROWS_AT_ONCE


def bad_tables() -> Iterator[tuple[str, pa.Table, str]]:
    images = [b"1", b"2"]
    deep = pa.array([1, 2])
    for _ in range(60):
        deep = pa.StructArray.from_arrays([deep], ["x"])
    yield "deep", table(images, label=deep), "where a name or a whole number is needed"
    inner = pa.array([{"bytes": {"bytes": b"1"}}] * 2)
    yield "bytes in bytes", table(images).set_column(0, "image", inner), "has no column 'image'"
    yield "a list", table(images, label=[["cat"], ["dog"]]), "where a name or a whole number is needed"
    yield "times", table(images, label=pa.array([2**62, 1], pa.timestamp("us"))), "cannot be read|is needed"
    yield "no text", table(images, label=pa.array([b"\xff", b"a"]).view(pa.string())), "cannot be read|is needed"
    twice = table(images).append_column("label", pa.array(["x", "y"]))
    yield "twice", twice, "has the column 'label' twice"
    names = json.dumps({"info": {"features": {"label": {"names": [["x"], 3]}, "image": {"_type": "Image"}}}})
    for said in (names, "[" * 100_000, '{"info": []}'):
        yield said[:9], table(images, label=[["a"], ["b"]]).replace_schema_metadata({"huggingface": said}), "is needed"


@pytest.mark.parametrize(
    ("kind", "content", "sentence"), bad_tables(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_tables_that_are_none_are_refused(tmp_path: Path, kind: str, content: pa.Table, sentence: str) -> None:  # noqa: ARG001
    pq.write_table(content, tmp_path / "0.parquet", store_schema=False)
    with pytest.raises(IcmBenchError, match=sentence):
        read(tmp_path)


def test_more_rows_than_a_file_can_have_are_not_believed(tmp_path: Path) -> None:
    n = 200_000
    columns = {"image": pa.array([b"1"] * n), "label": ["cat"] * n, "domain": ["p"] * n}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet")
    assert "says that it has 200000 rows in" in refusal(tmp_path)


def test_what_is_packed_more_than_images_are_is_not_unpacked(tmp_path: Path) -> None:
    large = table([bytes(2**26), bytes(2**26)])
    pq.write_table(large, tmp_path / "0.parquet", compression="zstd", use_dictionary=False)
    assert "says that 128 MiB of 'image.bytes' are packed in" in refusal(tmp_path)


def test_paths_that_are_no_text_are_no_paths(tmp_path: Path) -> None:
    images = pa.array([{"bytes": b"1", "path": b"a/b/c.png"}, {"bytes": b"2", "path": b"x"}])
    pq.write_table(table([b"", b""]).set_column(0, "image", images), tmp_path / "0.parquet")
    assert read(tmp_path).table["path"].to_pylist() == ["p/cat/0.parquet-000000000", "p/dog/0.parquet-000000001"]
