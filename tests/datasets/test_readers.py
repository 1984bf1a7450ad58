"""One data set in three layouts, on disk and on S3: the same images in the same order, and read back byte for byte."""

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.columns import ColumnsSpec
from benchmark.datasets.readers import base, open_reader
from tests.conftest import S3
from tests.datasets.reading import IMAGE, read, refusal, with_features

Write = Callable[[Path, Path], None]
Member = tuple[str, bytes]


def images_of(root: Path) -> list[str]:
    return [p.relative_to(root).as_posix() for p in root.rglob("*.png")]


def shuffled(items: Iterable[str]) -> list[str]:
    return [str(item) for item in np.random.default_rng(1).permutation(sorted(items))]


def write_parquet(root: Path, out: Path, row_group_size: int = 5) -> None:
    """Write the folder's images in random order as `datasets` does, the classes as a ClassLabel."""
    paths = shuffled(images_of(root))
    classes = sorted({p.split("/")[1] for p in paths}, reverse=True)
    features = {
        "image": {"_type": "Image"},
        "label": {"names": classes, "_type": "ClassLabel"},
        "domain": {"dtype": "string", "_type": "Value"},
    }
    columns = {
        "image": pa.array([{"bytes": (root / p).read_bytes(), "path": p} for p in paths], IMAGE),
        "label": [classes.index(p.split("/")[1]) for p in paths],
        "domain": [p.split("/")[0] for p in paths],
    }
    table = with_features(pa.table(columns), features)
    (out / "data").mkdir(parents=True)
    for i, part in enumerate((table.slice(0, 20), table.slice(20))):
        pq.write_table(part, out / "data" / f"train-0000{i}-of-00002.parquet", row_group_size=row_group_size)


def write_tar(file: Path, members: Iterable[Member]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_shards(root: Path, out: Path) -> None:
    """Write the folder's images in random order as two tar shards for each environment, classes as numbers."""
    paths = shuffled(images_of(root))
    classes = sorted({p.split("/")[1] for p in paths}, reverse=True)
    for environment in {p.split("/")[0] for p in paths}:
        mine = [p for p in paths if p.startswith(f"{environment}/")]
        for shard, part in enumerate((mine[::2], mine[1::2])):
            labels = [(f"{p[:-4]}.cls", str(classes.index(p.split("/")[1])).encode()) for p in part]
            images = [(p, (root / p).read_bytes()) for p in part]
            members = [member for sample in zip(labels, images, strict=True) for member in sample]
            write_tar(out / environment / f"{shard}.tar", members)
    (out / "classnames.txt").write_text("\n".join(classes) + "\n")


@pytest.fixture(params=[shutil.copytree, write_parquet, write_shards], ids=["folder", "parquet", "webdataset"])
def write(request: pytest.FixtureRequest) -> Write:
    function: Write = request.param
    return function


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], str]:
    """Return a function that puts a folder where the test is to find it, and says where that is."""
    if request.param == "disk":
        return str
    s3: S3 = request.getfixturevalue("s3")
    return lambda folder: s3.upload(folder, f"{tmp_path.name}/{folder.name}")


def test_every_layout_gives_the_same_manifest_and_the_same_bytes(
    toy_root: Path, tmp_path: Path, write: Write, place: Callable[[Path], str]
) -> None:
    (toy_root / "env0" / "cat" / "deep").mkdir()
    shutil.copy(toy_root / "env0" / "dog" / "3.png", toy_root / "env0" / "cat" / "deep" / "0.png")
    write(toy_root, tmp_path / "copy")
    manifest = read(place(tmp_path / "copy"))
    reference = read(toy_root)
    assert manifest.fingerprint == reference.fingerprint
    assert manifest.table.drop_columns(["file", "position"]).equals(reference.table.drop_columns(["file", "position"]))
    assert manifest.environments == ["env0", "env1", "env2"]
    paths = manifest.table["path"].to_pylist()
    digests = [hashlib.sha256((toy_root / p).read_bytes()).hexdigest() for p in paths]
    assert manifest.table["content"].to_pylist() == digests

    order = np.random.default_rng(0).permutation(len(paths))
    source = pickle.loads(pickle.dumps(manifest.reader))  # as it travels to a worker
    assert len(pickle.dumps(manifest.reader)) < 4000
    batch = {name: np.array(manifest.table[name].to_pylist())[order] for name in ("file", "position", "bytes")}
    assert list(source.read(batch)) == [(toy_root / paths[i]).read_bytes() for i in order]
    twice = {name: np.repeat(values[:3], 2) for name, values in batch.items()}
    assert list(source.read(twice)) == [(toy_root / paths[i]).read_bytes() for i in np.repeat(order[:3], 2)]


def test_where_images_lie_is_said_as_a_person_would(toy_root: Path, tmp_path: Path, s3: S3) -> None:
    assert read(toy_root).place("env0/cat/0.png") == f"{toy_root}/env0/cat/0.png"
    assert read(toy_root).reader.local_folder == toy_root
    write_shards(toy_root, tmp_path / "shards")
    uri = s3.upload(tmp_path / "shards", f"{tmp_path.name}/said")
    manifest = read(uri + "?region=us-east-1")
    assert manifest.reader.local_folder is None
    said = manifest.place("env0/cat/0.png")
    assert said in (f"env0/cat/0.png in {uri}/env0/{shard}.tar" for shard in (0, 1))
    s3.client.delete_object(Bucket="bucket", Key=f"{tmp_path.name}/said/env1/0.tar")
    with pytest.raises(IcmBenchError, match=r"said/env1/0\.tar cannot be read \(No such file"):
        list(manifest.reader.read(manifest.table.to_pydict()))


def test_a_root_that_is_not_there_is_refused(s3: S3) -> None:
    said = refusal(f"s3://{s3.bucket}/nowhere?region=us-east-1")
    assert "the root s3://bucket/nowhere of 'toy' does not exist" in said


def test_names_without_folders_give_the_same_data_set(toy_root: Path, tmp_path: Path) -> None:
    paths = sorted(images_of(toy_root))
    image = [{"bytes": (toy_root / p).read_bytes(), "path": Path(p).name} for p in paths]
    environment, class_name = ([p.split("/")[i] for p in paths] for i in (0, 1))
    columns = {"image": pa.array(image, IMAGE), "environment": environment, "class_name": class_name}
    plain_parquet(tmp_path / "p" / "f.parquet", columns)
    for e in set(environment):
        members: list[Member] = []
        for p in (p for p in paths if p.startswith(e)):
            key, c = f"{Path(p).stem}", p.split("/")[1]
            members += [(f"{key}.png", (toy_root / p).read_bytes()), (f"{key}.cls", c.encode())]
        write_tar(tmp_path / "t" / e / "0.tar", members)
    for copy in ("p", "t"):
        assert read(tmp_path / copy).fingerprint == read(toy_root).fingerprint


def test_a_missing_or_changed_file_is_an_error_that_names_it(toy_root: Path, tmp_path: Path, write: Write) -> None:
    copy = tmp_path / "copy"
    write(toy_root, copy)
    manifest = read(copy)
    batch = manifest.table.to_pydict()
    file = copy / batch["file"][0]
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(IcmBenchError, match=f"{file.name} (has changed|cannot be read)"):
        list(manifest.reader.read(batch))
    file.unlink()
    with pytest.raises(IcmBenchError, match=rf"{file.name} cannot be read \(No such file"):
        list(manifest.reader.read(batch))


def test_a_huge_image_is_rejected_without_being_held(
    toy_root: Path, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).bytes(3 * 2**20)
    (toy_root / "env0" / "cat" / "huge.png").write_bytes(noise)
    write(toy_root, tmp_path / "copy")
    manifest = read(tmp_path / "copy")
    batch = manifest.table.to_pydict()
    monkeypatch.setattr(base, "MAX_IMAGE_BYTES", 2**20)
    contents = dict(zip(batch["path"], manifest.reader.read(batch), strict=True))
    assert contents.pop("env0/cat/huge.png") == "3 MiB, more than the 1 MiB that an image may have"
    assert all(contents[p] == (toy_root / p).read_bytes() for p in contents)
    assert hashlib.sha256(noise).hexdigest() in batch["content"]


def test_each_row_group_is_read_once_in_a_call(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(toy_root, tmp_path / "copy", row_group_size=4)
    manifest = read(tmp_path / "copy")
    seen: list[tuple[int, int]] = []
    real = pq.ParquetFile.iter_batches

    def spy(self: Any, size: int, row_groups: list[int], columns: list[str]) -> Any:
        assert columns == ["image.bytes"]
        seen.append((self.metadata.num_rows, *row_groups))
        return real(self, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert len(list(manifest.reader.read(manifest.table.to_pydict()))) == 36
    assert sorted(seen) == [*((16, i) for i in range(4)), *((20, i) for i in range(5))]


def plain_parquet(file: Path, columns: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def test_parquet_without_names_paths_or_environment_columns(tmp_path: Path) -> None:
    for environment in ("photo", "sketch"):
        contents = [f"{environment}{i}".encode() for i in range(4)]
        plain_parquet(tmp_path / environment / "part.parquet", {"picture": contents, "label": [10, 9, 10, 9]})
    table = read(tmp_path).table
    assert table["class_name"].to_pylist() == ["10", "10", "9", "9"] * 2
    assert table["path"].to_pylist()[:2] == [f"photo/10/photo/part.parquet-{i:09d}" for i in (0, 2)]
    assert table["content"][1].as_py() == hashlib.sha256(b"photo2").hexdigest()


def test_parquet_names_are_completed_or_replaced_where_they_do_not_tell(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "x/y.png", "x/y.png"]
    image = pa.array([{"bytes": n.encode() + b"%d" % i, "path": n} for i, n in enumerate(names)], IMAGE)
    plain_parquet(tmp_path / "f.parquet", {"image": image, "env": ["p", "q", "p", "q"], "class": list("ccdd")})
    assert read(tmp_path).table["path"].to_pylist() == [
        "p/c/a.png", "p/d/f.parquet-000000002", "q/c/b.png", "q/d/f.parquet-000000003",
    ]  # fmt: skip


def test_columns_may_be_named(tmp_path: Path) -> None:
    columns = {"a": [b"1", b"2"], "b": [b"3", b"4"], "style": ["p", "q"], "kind": ["c", "d"], "who": [7, 8]}
    plain_parquet(tmp_path / "f.parquet", columns)
    named = {"image": "b", "environment": "style", "class_name": "kind", "group": "who"}
    manifest = read(tmp_path, columns=named)
    found = manifest.table.select(["environment", "class_name", "group"]).to_pydict()
    assert found == {"environment": ["p", "q"], "class_name": ["c", "d"], "group": ["7", "8"]}
    assert list(manifest.reader.read(manifest.table.to_pydict())) == [b"3", b"4"]
    for key, sentence in {
        "image": "has no column 'image' of encoded images.*name one in columns.image: a, b",
        "class_name": r"none of the columns class_name, label.*columns\.class_name: a, style, kind, who",
        "environment": "none of the columns environment, domain.*lies in no folder below",
    }.items():
        with pytest.raises(IcmBenchError, match=sentence):
            read(tmp_path, columns={k: v for k, v in named.items() if k != key})
        assert "f.parquet has no column 'nix', which columns" in refusal(tmp_path, columns={**named, key: "nix"})


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (pa.array([0, -1]), "The column 'label' in row 1 of .*f.parquet is -1, which is none of the 2 class names"),
        (pa.array(["a", None]), "The column 'label' in row 1 of .*f.parquet is None, where a name"),
        (pa.array([0.0, 1.0]), "The column 'label' in row 0 of .*f.parquet is 0.0, where a name"),
    ],
)
def test_a_row_that_says_nothing_is_named(tmp_path: Path, label: pa.Array, sentence: str) -> None:
    features = {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}
    table = pa.table({"image": [b"1", b"2"], "env": ["p", "q"], "label": label})
    pq.write_table(with_features(table, features), tmp_path / "f.parquet")
    with pytest.raises(IcmBenchError, match=sentence):
        read(tmp_path)


def test_a_row_without_bytes_is_rejected_and_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    image = pa.array([{"bytes": None, "path": "p/c/gone.png"}, None, {"bytes": b"1", "path": None}], IMAGE)
    plain_parquet(tmp_path / "f.parquet", {"image": image, "env": ["p", "p", "q"], "label": [0, 1, 1]})
    manifest = read(tmp_path)
    assert list(manifest.reader.read(manifest.table.to_pydict())) == ["no bytes are stored for it"] * 2 + [b"1"]
    (tmp_path / "g.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(IcmBenchError, match=r"g\.parquet cannot be read"):
        read(tmp_path)


def test_shards_take_class_and_environment_from_json_or_the_member_names(tmp_path: Path) -> None:
    fields = [{"domain": "p", "label": 1, "group": 5}, {"domain": "q", "label": "d", "group": "g"}]
    members: list[Member] = []
    for i, field in enumerate(fields):
        members += [(f"{i}.jpg", b"%d" % i), (f"{i}.json", json.dumps(field).encode()), (f"{i}.txt", b"a caption")]
    write_tar(tmp_path / "json" / "0.tar", members)
    table = read(tmp_path / "json").table
    assert table["path"].to_pylist() == ["p/1/0.jpg", "q/d/1.jpg"]
    assert table["group"].to_pylist() == ["5", "g"]
    write_tar(tmp_path / "plain" / "0.tar", [("./p/c/a.jpg", b"1"), ("./q/d/b.x.JPG", b"2")])
    assert read(tmp_path / "plain").table["path"].to_pylist() == ["p/c/a.jpg", "q/d/b.x.JPG"]


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (link("p/c/a.png", tarfile.SYMTYPE), "'p/c/a.png' in .*0.tar is a link or another special member"),
        (link("p/c/a.png", tarfile.LNKTYPE), "is a link or another special member"),
        (link("p/c/a.png", tarfile.CHRTYPE), "is a link or another special member"),
        (tarfile.TarInfo("/p/c/a.png"), "'/p/c/a.png' in .*0.tar points outside of the archive"),
        (tarfile.TarInfo("p/../../a.png"), "points outside of the archive"),
        (tarfile.TarInfo("a.png"), r"a\.png in .*0\.tar has no environment; put the shard in a folder"),
        (tarfile.TarInfo("p/c/1.left.png"), r"p/c/1.png and p/c/1.left.png in .*0.tar are images of one sample"),
    ],
)
def test_members_that_do_not_belong_are_refused(tmp_path: Path, member: tarfile.TarInfo, sentence: str) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        first = tarfile.TarInfo("p/c/1.png")
        first.size = 1
        archive.addfile(first, io.BytesIO(b"1"))
        archive.addfile(member)
    with pytest.raises(IcmBenchError, match=sentence):
        read(tmp_path)


def test_compressed_and_damaged_shards_are_refused(
    tmp_path: Path, place: Callable[[Path], str], toy_root: Path
) -> None:
    write_shards(toy_root, tmp_path / "whole")
    content = (tmp_path / "whole" / "env0" / "0.tar").read_bytes()
    for number, (name, spoilt, said) in enumerate(
        (
            ("0.tar", content[: len(content) // 2], ""),
            ("0.tar", b"no tar at all" * 1000, " is no tar archive, or a damaged one"),
            ("0.tar", gzip.compress(content), " is compressed, and images cannot be read from the middle"),
            ("1.tar.gz", gzip.compress(content), " is compressed, and images cannot be read from the middle"),
        )
    ):
        copy = shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        (copy / "env0" / name).write_bytes(spoilt)
        assert f"env0/{name}{said}" in refusal(place(copy))


def test_the_layout_may_be_forced(toy_root: Path, tmp_path: Path) -> None:
    plain_parquet(toy_root / "notes.parquet", {"x": [1]})
    with pytest.raises(IcmBenchError, match=r"notes\.parquet has no column 'image'"):
        read(toy_root)
    assert read(toy_root, layout="folder").table.num_rows == 36
    assert list(open_reader(str(tmp_path / "toy"), "webdataset", ColumnsSpec()).entries()) == []


def age(folder: Path, seconds: int = 60) -> None:
    for file in folder.rglob("*"):
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


def test_only_what_has_changed_is_hashed_again(
    toy_root: Path, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    write(toy_root, copy)
    hashed: list[str] = []
    kind = type(open_reader(str(copy)))
    real = kind.pieces

    def spy(self: Any, batch: base.Batch) -> Any:
        hashed.extend(batch["file"])
        return real(self, batch)

    monkeypatch.setattr(kind, "pieces", spy)
    cache = Path(os.environ["ICM_BENCH_CACHE"]) / "manifests"

    first = read(copy)
    assert len(hashed) == 36
    assert not cache.exists()  # all of it was written a moment ago, and may be again without its time showing it
    hashed.clear()
    age(copy)
    read(copy)
    assert len(hashed) == 36
    hashed.clear()
    assert read(copy).table.equals(first.table)
    assert hashed == []

    file = copy / first.table["file"][0].as_py()
    os.utime(file)  # as old as now, hence not to be trusted
    read(copy)
    assert set(hashed) == {file.relative_to(copy).as_posix()}
    (cached,) = cache.glob("*.parquet")
    for damage in (cached.read_bytes()[:100], b""):
        cached.write_bytes(damage)
        hashed.clear()
        assert read(copy).table.equals(first.table)
        assert len(hashed) == 36
    assert pq.read_table(cached).num_rows == 36 - first.table["file"].to_pylist().count(first.table["file"][0].as_py())


def test_the_same_files_under_other_columns_are_other_images(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2"], "domain": ["p", "q"], "style": ["r", "s"], "label": ["c", "d"]}
    plain_parquet(tmp_path / "f.parquet", columns)
    age(tmp_path)
    read(tmp_path)
    ids = read(tmp_path, columns={"environment": "style"}).table["image_id"].to_pylist()
    assert ids == [hashlib.sha256(b"1\0r\0c").hexdigest(), hashlib.sha256(b"2\0s\0d").hexdigest()]
