"""Whatever happens to the files of a store, what is read from it are the numbers of a clean run, or it ends in a sentence."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import safetensors.numpy

from benchmark.commands.embed import embed_stage, on_sound_embeddings
from benchmark.commands.preparing.prepare import Run, have_embeddings, prepare
from benchmark.commands.sweep import sweep_stage
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace import PROJECTIONS
from benchmark.recipe.loading import parse_recipe
from benchmark.store import embeddings as store
from benchmark.store.moments import ROOT
from benchmark.store.rows import row_file
from benchmark.sweep.loading import MomentsSpec, cells_for, load, tasks_of
from benchmark.sweep.summing import sum_missing
from tests.conftest import make_toy

pytestmark = pytest.mark.usefixtures("local_ray")

Numbers = dict[str, np.ndarray]
SPLIT = Split(0)


def content(folder: Path, backbone: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "damaged",
        "datasets": [{"name": "toy", "root": str(folder / "toy")}],
        "backbones": [backbone, {**backbone, "seed": 1}],
        "interventions": {"kinds": ["grayscale", "invert"], "text": {"per_class": 3}},
        "sweep": {
            "intervention_sets": [{"name": "all", "kinds": ["grayscale", "invert", "cross_environment", "text"]}],
            "projections": ["icm"], "predictors": ["zero_shot"], "seeds": [0], "lambdas": [1], "ranks": [4, 16],
        },
        "run": {"max_bad_images": 0.1},
    }  # fmt: skip


def prepared(folder: Path, backbone: dict[str, Any], place: Path, lines: list[str]) -> Run:
    return prepare(parse_recipe(content(folder, backbone)), Storage(str(place)), lines.append)


def copied(clean: tuple[Path, Numbers], backbone: dict[str, Any], place: Path) -> tuple[Run, list[str]]:
    """Copy the clean store, and return a run on the copy and the list that takes what it says."""
    shutil.copytree(clean[0] / "store", place)
    lines: list[str] = []
    return prepared(clean[0], backbone, place, lines), lines


def damaged(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("damaged: ")]


def read_all(run: Run) -> Numbers:
    """All that trials take from the store, as arrays."""
    have_embeddings(run, run.subjects)
    numbers: Numbers = {}
    (intervention_set,) = run.recipe.intervention_sets()
    for subject in run.subjects:
        data, images = ray.get(list(load.remote(run.storage, subject, (SPLIT,))))
        wanted = MomentsSpec(intervention_set, SPLIT, "none", projection=PROJECTIONS.create("identity"))
        sum_missing(run.storage, images, [task for task in tasks_of(subject, wanted) if task.may_be_stored])
        cells = cells_for(run.storage, subject, images, wanted)
        key = subject.backbone.seed
        numbers |= {f"{key} {name}": np.array(getattr(data, name)) for name in ("z", "label", "environment", "text")}
        for cell, moments in cells.moments.items():
            numbers |= {f"{key} {cell} {name}": getattr(moments, name) for name in ("counts", "sums", "outer")}
            numbers |= {f"{key} {cell} {kind}": d.outer for kind, d in moments.differences.items()}
        for kind, halves in cells.shared.items():
            numbers |= {f"{key} {kind} {half}": d.outer for half, d in halves.items()}
    return numbers


@pytest.fixture(scope="module")
def clean(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_random: dict[str, Any],
    local_ray: None,  # noqa: ARG001
) -> tuple[Path, Numbers]:
    """A folder with a data set of three chunks, one bad image in it, and a store that nothing has happened to."""
    folder = tmp_path_factory.mktemp("clean")
    make_toy(folder / "toy", environments=3, classes=2, images=24)
    (folder / "toy" / "env1" / "dog" / "7.png").write_bytes(b"no image")
    run = prepared(folder, tiny_random, folder / "store", [])
    embed_stage(run)
    numbers = read_all(run)
    assert len(numbers["0 z"]) == 143
    assert all(len(store.parts(run.storage, view.directory)) == 3 for subject in run.subjects for view in subject.views)
    return folder, numbers


class Place:
    """The files of a store that damage is done to."""

    def __init__(self, run: Run) -> None:
        (self.original, self.grayscale, self.invert), other = (s.views for s in run.subjects)
        self.other, self.root, self.run = other[0], Path(run.storage.path("")), run

    def part(self, view: store.View, chunk: int) -> Path:
        return self.root / store.part_name(view.directory, chunk)

    def moments(self) -> tuple[Path, list[Path]]:
        """The moments of the first backbone's images, and of its kinds."""
        files = sorted((self.root / self.original.directory.replace("embeddings", ROOT)).rglob("*.safetensors"))
        (images,) = [file for file in files if file.stem == "images"]
        return images, [file for file in files if file != images]

    def texts(self) -> list[Path]:
        return sorted(self.root.glob("texts/*.parquet"))


def write(file: Path, **columns: Callable[[pa.ChunkedArray], pa.Array]) -> Path:
    """Write a part or texts with some columns changed, and all that it says of itself kept."""
    table = pq.read_table(file)
    for name, change in columns.items():
        table = table.set_column(table.column_names.index(name), name, change(table[name]))
    pq.write_table(table, file)
    return file


def reverse(column: pa.ChunkedArray) -> pa.Array:
    return column.take(list(range(len(column)))[::-1])


def copy(source: Path, target: Path) -> Path:
    shutil.copy(source, target)
    return target


def scaled_by_two(file: Path) -> Path:
    """Moments of other numbers, in a file that can be read."""
    header = file.read_bytes()
    kept = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    arrays = {name: array * 2 for name, array in safetensors.numpy.load(header).items()}
    file.write_bytes(safetensors.numpy.save(arrays, metadata=kept))
    return file


def flip(file: Path, at: float) -> Path:
    bits = bytearray(file.read_bytes())
    bits[int(at * len(bits))] ^= 16
    file.write_bytes(bytes(bits))
    return file


def cut(file: Path) -> Path:
    os.truncate(file, file.stat().st_size // 2)
    return file


def rejected(place: Place, chunk: int) -> Path:
    return place.root / store.rejected_file(place.original.directory, chunk)


def with_bad(place: Place) -> int:
    """The chunk with the bad image."""
    return next(chunk for chunk in range(3) if rejected(place, chunk).exists())


def reject_one_more(place: Place) -> Path:
    file = rejected(place, with_bad(place))
    listed = json.loads(file.read_text())
    image = pq.read_table(place.part(place.original, with_bad(place)))["image_id"][0].as_py()
    listed["images"].append([image, "toy/x.png", "invented"])
    file.write_text(json.dumps(listed))
    return file


def forget_the_bad_one(place: Place) -> Path:
    """For all views of both backbones: the list of the images that cannot be read is gone."""
    for file in place.root.glob("embeddings/*/rejected-*.json"):
        file.unlink()
    return place.part(place.original, 0).parent


DAMAGES: dict[str, Callable[[Place], Path]] = {
    "rows reversed": lambda p: write(p.part(p.original, 0), embedding=reverse),
    "ids reversed": lambda p: write(p.part(p.grayscale, 1), image_id=reverse),
    "the original's part over grayscale's": lambda p: copy(p.part(p.original, 1), p.part(p.grayscale, 1)),
    "grayscale's part over the original's": lambda p: copy(p.part(p.grayscale, 2), p.part(p.original, 2)),
    "another backbone's part": lambda p: copy(p.part(p.other, 0), p.part(p.original, 0)),
    "another chunk's part": lambda p: copy(p.part(p.invert, 0), p.part(p.invert, 1)),
    "a bit of a part": lambda p: flip(p.part(p.invert, 1), 0.4),
    "half a part": lambda p: cut(p.part(p.original, 1)),
    "no part, but its name": lambda p: copy(p.texts()[0], p.part(p.original, 1)),
    "an image more that cannot be read": reject_one_more,
    "the list of those that cannot be read gone": forget_the_bad_one,
    "another chunk's list": lambda p: copy(rejected(p, with_bad(p)), rejected(p, (with_bad(p) + 1) % 3)),
    "texts reversed": lambda p: write(next(f for f in p.texts() if "pairs" not in f.name), embedding=reverse),
    "pairs of texts reversed": lambda p: write(next(f for f in p.texts() if "pairs" in f.name), rewrite=reverse),
    "texts of another backbone": lambda p: copy(*[f for f in p.texts() if "pairs" not in f.name][:2]),
    "half a file of texts": lambda p: cut(p.texts()[0]),
    "a kind's moments over another's": lambda p: copy(*p.moments()[1][:2]),
    "moments times two": lambda p: scaled_by_two(p.moments()[0]),
    "a bit of moments": lambda p: flip(p.moments()[1][0], 0.9),
    "half a file of moments": lambda p: cut(p.moments()[0]),
}  # fmt: skip
# Those that touch no file in common are done together: what costs time is to embed again, once for all of them.
TOGETHER = [
    ("rows reversed", "ids reversed", "grayscale's part over the original's", "a bit of a part"),
    ("an image more that cannot be read", "another backbone's part", "the original's part over grayscale's", "another chunk's part"),
    ("half a part", "another chunk's list"),
    ("no part, but its name", "texts reversed", "pairs of texts reversed"),
    ("the list of those that cannot be read gone", "texts of another backbone"),
    ("half a file of texts",),
    ("a kind's moments over another's", "moments times two"),
    ("a bit of moments", "half a file of moments"),
]  # fmt: skip


assert sorted(name for names in TOGETHER for name in names) == sorted(DAMAGES)


@pytest.mark.parametrize("names", TOGETHER, ids=" and ".join)
def test_what_is_damaged_is_named_and_made_again(
    clean: tuple[Path, Numbers], tiny_random: dict[str, Any], tmp_path: Path, names: tuple[str, ...]
) -> None:
    run, lines = copied(clean, tiny_random, tmp_path / "store")
    place = Place(run)
    if "moments" not in names[0]:  # else they are there and nobody looks at the embeddings
        shutil.rmtree(tmp_path / "store" / ROOT)
    files = [DAMAGES[name](place) for name in names]
    found = on_sound_embeddings(run, lambda: read_all(run))
    for file in files:
        assert any(str(file) in line and line.endswith("it is recomputed") for line in damaged(lines)), file
    assert_close(found, clean[1])
    lines.clear()
    on_sound_embeddings(run, lambda: read_all(run))  # from now on the store is sound
    assert not damaged(lines)


def assert_close(found: Numbers, expected: Numbers) -> None:
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        np.testing.assert_allclose(found[key], numbers, rtol=1e-5, atol=1e-4, err_msg=key)


def test_a_store_that_cannot_be_trusted_ends_in_a_sentence(
    clean: tuple[Path, Numbers], tiny_random: dict[str, Any], tmp_path: Path
) -> None:
    run, _ = copied(clean, tiny_random, tmp_path / "store")
    place = Place(run)

    def work() -> Numbers:
        write(place.part(place.original, 0), embedding=reverse)  # whenever it is to be read
        return read_all(run)

    with pytest.raises(IcmBenchError, match=r"part-00000.parquet is not what was written .*just rewritten"):
        on_sound_embeddings(run, work)


@pytest.mark.long("damage that a sweep meets changes its rows")
def test_a_sweep_over_a_damaged_store_leaves_the_rows_of_a_clean_one(
    clean: tuple[Path, Numbers], tiny_random: dict[str, Any], tmp_path: Path
) -> None:

    def swept(name: str, spoil: Callable[[Place], Any]) -> tuple[dict[str, list[dict[str, Any]]], list[str], Run]:
        run, lines = copied(clean, tiny_random, tmp_path / name)
        spoil(Place(run))
        sweep_stage(run)
        files = sorted((tmp_path / name / "rows").iterdir())
        return {file.stem: pq.read_table(file).to_pylist() for file in files}, lines, run

    def three_damages(place: Place) -> None:
        copy(place.part(place.original, 0), place.part(place.grayscale, 0))
        write(place.part(place.other, 1), embedding=reverse)
        images, kinds = place.moments()
        scaled_by_two(images)
        for file in kinds:  # while they are there, nobody looks at the views
            file.unlink()

    expected, _, _ = swept("sound", lambda _: None)
    found, lines, run = swept("damaged", three_damages)
    assert len(damaged(lines)) == 3
    assert numbers_of(found) == numbers_of(expected)
    # A file of rows that was renamed is never counted as done, nor is one that was cut.
    one, other = sorted(expected)[:2]
    place, lines[:] = tmp_path / "damaged", []
    copy(place / row_file(one), place / row_file(other))
    content = (place / row_file(one)).read_bytes()
    (place / row_file(one)).write_bytes(content[: len(content) // 2])
    sweep_stage(run)
    assert len(damaged(lines)) == 2
    assert any(f"{other}.parquet holds rows of the trial {one}: it was copied" in line for line in damaged(lines))
    again = {name: pq.read_table(place / row_file(name)).to_pylist() for name in expected}
    assert numbers_of(again) == numbers_of(expected)


def numbers_of(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[list[Any]]]:
    return {name: [[row[n] for n in ("target", "correct", "lodo")] for row in every] for name, every in rows.items()}


@pytest.mark.long("damage of a kind that nobody thought of is read as sound")
@pytest.mark.parametrize("seed", range(6))
def test_damage_at_random(clean: tuple[Path, Numbers], tiny_random: dict[str, Any], tmp_path: Path, seed: int) -> None:
    """Bits flipped, files cut, and files of one kind copied over each other, anywhere in the store."""
    rng = random.Random(seed)
    run, _ = copied(clean, tiny_random, tmp_path / "store")
    files = sorted(f for f in (tmp_path / "store").rglob("*") if f.suffix in (".parquet", ".safetensors"))
    for file in rng.sample(files, 5):
        way = rng.choice(["flip", "cut", "copy"])
        if way == "flip":
            flip(file, rng.random())
        elif way == "cut":
            cut(file)
        else:
            copy(rng.choice([f for f in files if f.suffix == file.suffix and f != file]), file)
    assert_close(on_sound_embeddings(run, lambda: read_all(run)), clean[1])
