"""One URI, a folder or a real S3 endpoint: what is written is there, and what is secret is never printed."""

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.secrets import public
from benchmark.common.storage.files import Storage
from tests.conftest import S3


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty store, on disk and on S3."""
    if request.param == "folder":
        return Storage(str(tmp_path))
    s3: S3 = request.getfixturevalue("s3")
    return Storage(f"s3://{s3.bucket}/{tmp_path.name}/store")


def test_a_file_that_cannot_be_deleted_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()  # which the system does not delete as a file
    storage = Storage(str(tmp_path))
    with pytest.raises(UnwritableError, match=rf"^{tmp_path}/folder cannot be deleted \(.+\); let this user write"):
        storage.delete("folder")
    storage.delete("nothing")
    storage.delete_folder("nothing")


def test_files_and_tables_come_back_as_they_were_written(storage: Storage) -> None:
    storage.check_writable()
    assert storage.files("", "") == []
    assert not storage.exists("a/b.bin")
    storage.write_bytes("a/b.bin", b"one")
    storage.write_bytes("a/b.bin", b"another")
    table = pa.table({"x": [1, 2], "y": ["p", "q"]})
    storage.write_table("a/c/d.parquet", table)
    for opened in (storage, pickle.loads(pickle.dumps(storage))):
        assert opened.exists("a/b.bin")
        assert not opened.exists("a")
        assert opened.is_folder("a/c")
        assert not opened.is_folder("a/b.bin")
        assert opened.read_bytes("a/b.bin") == b"another"
        assert opened.read_table("a/c/d.parquet").equals(table)
        assert opened.read_table("a/c/d.parquet", columns=["y"]).column_names == ["y"]
        assert opened.files("a", ".parquet") == ["a/c/d.parquet"]
        listed = [(i.name, i.is_folder, i.bytes) for i in opened.listing("a")]
        assert listed == [("a/b.bin", False, 7), ("a/c", True, 0)]
        with opened.open("a/b.bin") as stream:
            assert stream.read_at(3, 2) == b"oth"


def test_what_is_not_there_or_damaged_is_named_with_a_reason(storage: Storage) -> None:
    for read in (storage.read_bytes, storage.open):
        with pytest.raises(IcmBenchError, match=r"/absent cannot be read \(No such file or directory"):
            read("absent")
    with pytest.raises(IcmBenchError, match="/absent cannot be read"):
        storage.listing("absent")
    storage.write_bytes("x.parquet", b"no table")
    with pytest.raises(IcmBenchError, match=r"/x\.parquet is damaged"):
        storage.read_table("x.parquet")


def test_a_bucket_that_is_not_there_is_refused_before_work(s3: S3) -> None:
    with pytest.raises(IcmBenchError, match=r"s3://nowhere/store/\.write-test-.* cannot be written .*NoSuchBucket"):
        Storage("s3://nowhere/store").check_writable()
    assert s3.client.list_buckets()["Buckets"][0]["Name"] == "bucket"


def test_an_endpoint_in_the_uri_works(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    uri = f"s3://bucket/query?endpoint_override={s3_server.address}&scheme=http&region=us-east-1"
    storage = Storage(uri)
    storage.write_bytes("file", b"content")
    assert s3_server.client.get_object(Bucket="bucket", Key="query/file")["Body"].read() == b"content"
    assert storage.path("file") == "s3://bucket/query/file"
    with pytest.raises(IcmBenchError, match="cannot be opened") as caught:
        Storage("s3://bucket/query?unknown=hush")
    assert "hush" not in str(caught.value)
    assert public("s3://bucket/a/?session=hush") == "s3://bucket/a"
    assert public("/a/b") == "/a/b"


def test_what_gives_nothing_or_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        for read in (Storage(str(tmp_path)).read_bytes, Storage(str(tmp_path)).open):
            with pytest.raises(IcmBenchError, match=r"cannot be read \(it is a pipe, a socket or a device\)"):
                read(name)


def test_open_uploads_of_a_store_are_found_and_ended_and_no_others(s3: S3, tmp_path: Path) -> None:
    keys = [f"{tmp_path.name}/store/moments/x", f"{tmp_path.name}/other/x", f"{tmp_path.name}/store-2/x"]
    for key in keys:
        s3.client.create_multipart_upload(Bucket="bucket", Key=key)
    storage = Storage(f"s3://bucket/{tmp_path.name}/store")
    (upload,) = storage.open_uploads()
    assert storage.upload_name(upload) == "moments/x"
    storage.abort(upload)
    left = s3.client.list_multipart_uploads(Bucket="bucket", Prefix=tmp_path.name)["Uploads"]
    assert sorted(one["Key"] for one in left) == sorted(keys[1:])
    for one in left:
        s3.client.abort_multipart_upload(Bucket="bucket", Key=one["Key"], UploadId=one["UploadId"])


@pytest.mark.parametrize("place", ["", "env/class"])
def test_a_name_that_is_not_utf8_is_named_itself(place: str, tmp_path: Path) -> None:
    (tmp_path / "env" / "class").mkdir(parents=True)
    (tmp_path / "env" / "class" / "a.png").touch()
    Path(os.fsdecode(os.fsencode(tmp_path / place) + b"/bad\xff.png")).touch()
    with pytest.raises(IcmBenchError) as caught:
        Storage(str(tmp_path)).listing(recursive=True)
    name = f"{place}/bad" if place else "bad"
    assert str(caught.value) == f"The file name '{tmp_path}/{name}\\xff.png' is not UTF-8; rename it."
