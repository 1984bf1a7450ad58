"""The store's own care: what `icm-bench store` lists, finds and removes. No Ray: parts are written directly."""

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage, in_parquet
from benchmark.method.evaluation.cells import Cells
from benchmark.method.interventions.text import TextPair
from benchmark.method.subspace import Moments
from benchmark.store import embeddings as store
from benchmark.store import moments as sums
from benchmark.store import upkeep
from benchmark.store.embeddings import Decoding, View, view_of
from benchmark.store.sealed import DamagedError, digest_of, read_checked
from benchmark.store.upkeep import clean
from tests.conftest import S3

IMAGES, DIM = 130, 8  # three chunks: 64, 64, 2


def part(view: View, first: int, count: int) -> pa.Table:
    values = np.arange(first * DIM, (first + count) * DIM, dtype=np.float32)
    names = ("image_id", "environment", "class_name")
    columns = {name: [f"{name} {i}" for i in range(first, first + count)] for name in names}
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(values), DIM)
    return pa.table({**columns, "label": [0] * count, "view": [view.label] * count, "embedding": embedding})


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "store"))


@pytest.fixture
def view(storage: Storage) -> View:
    """A complete view with one rejected image."""
    view = view_of("fingerprint", IMAGES, {"fingerprint": "weights"}, None, 0)
    store.write_about(storage, view, {"dataset": "toy", "backbone": "tiny", "dim": DIM})
    store.write_part(storage, view, 0, part(view, 0, 64), [])
    store.write_part(storage, view, 1, part(view, 64, 63), [("image_id 127", "a/b/c.png", "cut off")])
    store.write_part(storage, view, 2, part(view, 128, 2), [])
    return view


def command(storage: Storage, *words: str) -> int:
    return main(["store", *words, "--store", storage.uri])


def place_of(storage: Storage, view: View, chunk: int = 1) -> Path:
    return Path(storage.path(store.part_name(view.directory, chunk)))


def test_what_is_written_is_read_in_any_order(storage: Storage, view: View) -> None:
    assert store.parts(storage, view.directory) == {i: f"{view.directory}/part-0000{i}.parquet" for i in range(3)}
    z = store.read(storage, view, ["image_id 129", "image_id 0", "image_id 70"])
    np.testing.assert_array_equal(z[:, 0], np.array([129, 0, 70]) * DIM)
    assert store.rejected(storage, [view]) == {"image_id 127": ("a/b/c.png", "cut off")}
    with pytest.raises(KeyError):
        store.read(storage, view, ["image_id 127"])


def test_a_sound_store_is_listed_verified_and_left_alone(
    storage: Storage, view: View, capsys: pytest.CaptureFixture[str]
) -> None:
    before = storage.files("", "")
    assert command(storage) == 0
    assert "toy  tiny  original: 130 images, 1 rejected" in (out := capsys.readouterr().out)
    assert "complete" in out
    assert command(storage, "verify") == 0
    assert "verified: 3 files are sound" in capsys.readouterr().out
    assert command(storage, "clean") == 0
    assert "0 files and directories removed" in capsys.readouterr().out
    assert storage.files("", "") == before
    place_of(storage, view).unlink()
    assert command(storage, "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["state"], listed["parts"], listed["parts_expected"]) == ("2 of 3 parts", 2, 3)


def damage_bits(storage: Storage, view: View) -> None:
    file = place_of(storage, view)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes(content)


def forge_numbers(storage: Storage, view: View) -> None:
    name = store.part_name(view.directory, 1)
    written = storage.read_table(name).schema.metadata
    other = part(view, 65, 63).set_column(0, "image_id", part(view, 64, 63)["image_id"])
    storage.write_table(name, other.replace_schema_metadata(written))


def reverse_rows(storage: Storage, view: View) -> None:
    name = store.part_name(view.directory, 1)
    table = storage.read_table(name)
    turned = table["embedding"].take(list(range(len(table)))[::-1])
    column = table.column_names.index("embedding")
    storage.write_table(name, table.set_column(column, "embedding", turned))


def copy_of_another_view(storage: Storage, view: View) -> None:
    """As sound as that view's own, but for what it is of."""
    other = view_of("fingerprint", IMAGES, {"fingerprint": "weights"}, None, 0, Decoding(draft=False))
    store.write_part(storage, other, 1, part(view, 64, 63), [])
    shutil.copy(place_of(storage, other), place_of(storage, view))
    shutil.rmtree(storage.path(other.directory))


def list_of(storage: Storage, view: View, chunk: int = 1) -> Path:
    return Path(storage.path(store.rejected_file(view.directory, chunk)))


def reject_another(storage: Storage, view: View) -> None:
    file = list_of(storage, view)
    file.write_text(file.read_text().replace("image_id 127", "image_id 100"))


def not_finite(storage: Storage, view: View) -> None:
    table = part(view, 64, 63)
    bad = pa.FixedSizeListArray.from_arrays(pa.array(np.full(63 * DIM, np.nan, np.float32)), DIM)
    store.write_part(storage, view, 1, table.set_column(5, "embedding", bad), [])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage_bits, "part-00001.parquet: is not what was written"),
        (lambda s, v: store.write_part(s, v, 1, part(v, 64, 60), []), "part-00001.parquet: has 60 rows instead of 63"),
        (lambda s, v: store.write_part(s, v, 1, part(v, 0, 63), []), "part-00001.parquet: repeats images"),
        (forge_numbers, "part-00001.parquet: is not what was written"),
        (reverse_rows, "part-00001.parquet: is not what was written"),
        (lambda s, v: shutil.copy(place_of(s, v, 0), place_of(s, v)), "part-00001.parquet: is not what was written"),
        (copy_of_another_view, "part-00001.parquet: is not what was written"),
        (lambda s, v: list_of(s, v).unlink(), "part-00001.parquet: has 63 rows instead of 64"),
        (reject_another, "rejected-00001.json: is not what was written"),
        (lambda s, v: shutil.copy(list_of(s, v, 1), list_of(s, v, 2)), "rejected-00002.json: is not what was written"),
        (not_finite, "part-00001.parquet: holds numbers that are not finite"),
        (lambda s, v: store.write_part(s, v, 3, part(v, 300, 2), []), "part-00003.parquet: is beyond the last chunk of"),
    ],
)  # fmt: skip
def test_damage_is_found_named_and_removed(
    storage: Storage, view: View, spoil: Callable[[Storage, View], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(storage, view)
    assert command(storage, "verify") == 2
    error = capsys.readouterr().err
    assert "icm-bench store repair" in error
    assert said in error
    assert len(error.splitlines()) == 1
    assert command(storage, "clean", "--dry-run") == 0
    assert command(storage, "verify") == 2
    assert command(storage, "clean") == 0
    assert command(storage, "verify") == 0


def test_stale_directories_go_with_their_moments_leftovers_too_and_newer_ones_stay(
    storage: Storage, view: View, capsys: pytest.CaptureFixture[str]
) -> None:
    def directory(name: str, version: int) -> None:
        about = {"dataset": "toy", "backbone": "tiny", "view": "original", "images": 1}
        about |= {"depends_on": {"view": {"version": version}}}
        storage.write_bytes(f"{store.ROOT}/{name}/about.json", json.dumps(about).encode())
        storage.write_bytes(f"{store.ROOT}/{name}/part-00000.parquet", b"x")

    directory("old", store.STORE_VERSION - 1)
    directory("new", store.STORE_VERSION + 1)
    storage.write_bytes(f"{sums.ROOT}/old/a/x.safetensors", b"x")
    storage.write_bytes("moments/old/a/images.safetensors", b"x")
    storage.write_bytes(f"{store.ROOT}/nameless/part-00000.parquet", b"x")
    old, young = (Path(storage.path(f"{view.directory}/.{name}.tmp")) for name in ("old", "young"))
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * upkeep.LEFTOVER_SECONDS,) * 2)
    assert command(storage) == 0
    out = capsys.readouterr().out
    assert f"stale: made by version {store.STORE_VERSION - 1} of the store" in out
    assert "made by a newer version of icm-bench" in out
    assert "sums/old: files: 1, 0.0 MB, stale: the embeddings that it sums up" in out
    assert "moments: files: 1, 0.0 MB, stale: an earlier icm-bench made it; it is not read" in out
    assert "embeddings/nameless: files: 1, 0.0 MB, stale: its about.json is missing" in out
    assert command(storage, "clean", "--json") == 0
    removed = json.loads(capsys.readouterr().out)["names"]
    assert removed == [f"{view.directory}/.old.tmp", "embeddings/nameless", "moments", "sums/old", "embeddings/old"]
    assert {d.name for d in upkeep.directories(storage)} == {view.directory, "embeddings/new"}
    assert young.exists()
    assert not old.exists()


def test_moments_are_looked_after_with_the_embeddings_they_sum_up(
    storage: Storage, view: View, capsys: pytest.CaptureFixture[str]
) -> None:
    z = np.random.default_rng(0).standard_normal((9, DIM))
    cells = Cells({(0, 0, "base"): Moments.of(z, {"a/cross/b": z + 1})})
    of_view = view.directory.replace(store.ROOT, sums.ROOT)
    sound, spoilt = (f"{of_view}/a/{name}.safetensors" for name in "xy")
    content = {
        name: sums.packed(cells, "a/cross/b", name) for name in (sound, spoilt, f"{sums.ROOT}/gone/a/x.safetensors")
    }
    for name in content:
        storage.write_bytes(name, content[name])
    [moments] = sums.unpacked(storage, spoilt, "a/cross/b").moments.values()
    expected = cells.moments[0, 0, "base"].differences["a/cross/b"]
    assert moments.differences["a/cross/b"].n == 9
    np.testing.assert_array_equal(moments.differences["a/cross/b"].outer, expected.outer)
    assert command(storage) == 0
    out = capsys.readouterr().out
    assert "toy  tiny  moments: 130 images, 0 rejected" in out
    assert "sums/gone: files: 1, 0.0 MB, stale: the embeddings that it sums up are gone or stale" in out
    assert "1 views" in out
    changed = bytearray(content[spoilt])
    changed[-3] ^= 1  # a number that safetensors reads all the same
    storage.write_bytes(spoilt, bytes(changed))
    with pytest.raises(DamagedError, match="its digest differs"):
        sums.unpacked(storage, spoilt, "a/cross/b")
    for spoiling, said in (
        (bytes(changed), "is not what was written (its digest differs)"),
        (content[sound], "is not what was written (its digest differs)"),  # of another split or kind
        (content[spoilt][:50], "is not what was written"),
    ):
        storage.write_bytes(spoilt, spoiling)
        assert command(storage, "verify") == 2
        assert f"y.safetensors: {said}" in capsys.readouterr().err
    assert command(storage, "clean", "--json") == 0
    assert json.loads(capsys.readouterr().out)["names"] == [spoilt, f"{sums.ROOT}/gone"]
    assert storage.files(sums.ROOT, "") == [sound]
    assert command(storage, "verify") == 0
    damage_bits(storage, view)
    assert command(storage, "clean") == 0
    assert storage.files(sums.ROOT, "") == [sound]  # no part that is damaged is ever summed


def test_a_file_without_a_digest_of_its_bytes_is_known_by_that_of_its_numbers(storage: Storage) -> None:
    """As files of earlier versions are."""
    numbers = np.random.default_rng(0).standard_normal((2, DIM)).astype(np.float32)
    tables = [
        pa.table({"z": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM)})
        for values in (numbers, numbers + 1)
    ]
    for table in tables:
        named = table.replace_schema_metadata({"icm_bench_sha256": digest_of(tables[0], "texts/a.parquet")})
        storage.write_bytes("texts/a.parquet", in_parquet(named, "zstd"))
        if table is tables[0]:
            assert read_checked(storage, "texts/a.parquet").equals(table)
    with pytest.raises(DamagedError, match="its digest differs"):
        read_checked(storage, "texts/a.parquet")


def test_texts_are_looked_after(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    z = np.random.default_rng(0).standard_normal((2, DIM)).astype(np.float32)
    one, two, pairs = (f"{store.TEXTS}/{name}.parquet" for name in ("one", "two", "pairs-x"))
    for name in (one, two):
        store.write_texts(storage, name, ["cat", "dog"], z)
    store.write_pairs(storage, pairs, [TextPair("a", "b"), TextPair("c", "d")], z, z + 1)
    assert command(storage, "verify") == 0
    assert "verified: 3 files are sound" in capsys.readouterr().out
    np.testing.assert_array_equal(store.read_texts(storage, one), z)
    np.testing.assert_allclose(store.read_pairs(storage, pairs, "none").d, -np.ones((2, DIM)), atol=1e-6)
    shutil.copy(storage.path(one), storage.path(two))
    with pytest.raises(DamagedError, match=r"two\.parquet is not what was written .* delete it and run again"):
        store.read_texts(storage, two)
    shutil.copy(storage.path(one), storage.path(pairs))
    with pytest.raises(DamagedError, match=r"pairs-x\.parquet is not what was written"):
        store.read_pairs(storage, pairs, "none")
    assert command(storage, "verify") == 2
    capsys.readouterr()
    assert command(storage, "clean", "--json") == 0
    assert json.loads(capsys.readouterr().out)["names"] == [pairs, two]


def test_a_part_is_compared_whenever_it_is_read(storage: Storage, view: View) -> None:
    ids, chunks = ["image_id 70", "image_id 1"], np.array([1, 0])
    np.testing.assert_array_equal(store.read(storage, view, ids, chunks)[:, 0], np.array([70, 1]) * DIM)
    with pytest.raises(DamagedError, match=r"part-00001\.parquet lacks an image that is not on its list"):
        store.read(storage, view, ["image_id 127"], np.array([1]))
    reverse_rows(storage, view)
    for asked in (None, chunks):
        with pytest.raises(DamagedError, match=r"part-00001\.parquet is not what was written .* delete it") as raised:
            store.read(storage, view, ids, asked)
        again = pickle.loads(pickle.dumps(raised.value))  # on its way from a worker
        assert (again.problems, str(again)) == (raised.value.problems, str(raised.value))
    assert store.read(storage, view, ids[1:], chunks[1:])[0, 0] == DIM  # what is not read is not compared
    not_there = place_of(storage, view, 2)
    not_there.unlink()
    not_there.mkdir()  # what cannot be read at all is not taken for damaged, and stays
    with pytest.raises(IcmBenchError, match=r"part-00002\.parquet cannot be read") as refused:
        store.read(storage, view, ["image_id 129"], np.array([2]))
    assert not isinstance(refused.value, DamagedError)


def test_the_key_says_what_an_embedding_depends_on() -> None:
    from benchmark.method.interventions import INTERVENTIONS

    plain: dict[str, Any] = {
        "dataset_fingerprint": "d", "images": 9, "backbone_identity": {"precision": "float32"},
        "intervention": INTERVENTIONS.create("gaussian_blur"), "seed": 0,
    }  # fmt: skip

    def key(**changes: object) -> str:
        return view_of(**{**plain, **changes}).directory

    decodings = (Decoding(at_source=True), Decoding(draft=False))
    pixels = (Decoding(upright=False), Decoding(resize="torch"), Decoding(upright=False, resize="torch"))
    other_blur = INTERVENTIONS.create({"name": "gaussian_blur", "sigma": [1, 9]})
    others: list[dict[str, Any]] = [
        {"dataset_fingerprint": "e"}, {"backbone_identity": {"precision": "bfloat16"}}, {"seed": 1},
        {"intervention": other_blur}, {"intervention": None}, *({"decoding": decoding} for decoding in (*decodings, *pixels)),
    ]  # fmt: skip
    assert len({key(), *(key(**change) for change in others)}) == len(others) + 1
    assert key(intervention=None, seed=1) == key(intervention=None)
    solarize = INTERVENTIONS.create("solarize")  # draws nothing
    assert key(intervention=solarize, seed=1) == key(intervention=solarize)
    assert len({key(intervention=None, decoding=decoding) for decoding in decodings}) == 1
    assert len({key(intervention=None, decoding=decoding) for decoding in (Decoding(), *pixels)}) == 4


def test_uploads_that_a_killed_writer_left_open_are_ended(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, uri = f"{tmp_path.name}/store/moments/a/b.safetensors", f"s3://bucket/{tmp_path.name}/store"
    s3.client.create_multipart_upload(Bucket="bucket", Key=key)
    with monkeypatch.context() as patched:  # the server says of every upload that it began in 2010
        patched.setattr(upkeep, "LEFTOVER_SECONDS", time.time())
        assert clean(Storage(uri), dry_run=False).names == []  # somebody may be writing it
    for dry_run in (True, False):
        assert "Uploads" in s3.client.list_multipart_uploads(Bucket="bucket", Prefix=key)
        assert clean(Storage(uri), dry_run).names == ["moments/a/b.safetensors (an upload that nobody ended)"]
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket="bucket", Prefix=key)
