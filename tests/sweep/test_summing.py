"""Moments summed over the store by several workers equal those of all embeddings at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Normalize, Scale, scaled
from benchmark.method.evaluation.cells import (
    Cells,
    Half,
    Layout,
    cells_of,
    class_means,
    cross_cells,
    drawn_pairs,
    one_of,
)
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings as store
from benchmark.store.embeddings import TextDifferences, View
from benchmark.sweep.loading import text_cells
from benchmark.sweep.summing import ImageIndex, Pairing, Some, SumTask, file_of, read_cells, sum_moments

DISTINCT, D, CLASSES, NAMES = 5000, 6, 4, ["amber", "blue", "cyan"]  # more than one block, and more than one range

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(autouse=True)
def _two_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two cores: each sums a range, one after the other on the one core of the tests' Ray."""
    monkeypatch.setattr("benchmark.common.ray.cluster.cpu_nodes", lambda: (1, 2))


def view(label: str) -> View:
    return View(label, None, 0, DISTINCT, {"view": label})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, ImageIndex, dict[str, np.ndarray]]:
    """A store with three views in float32, an image that stands twice, and one that cannot be read."""
    rng = np.random.default_rng(2)
    storage = Storage(str(tmp_path_factory.mktemp("moments")))
    ids = [f"image-{i:04d}" for i in range(DISTINCT)]
    arrays = {name: rng.standard_normal((DISTINCT, D)).astype(np.float32) for name in (store.ORIGINAL, "blur", "grey")}
    size = store.chunk_size(DISTINCT)
    for name, z in arrays.items():
        for chunk in range(store.chunk_count(DISTINCT)):
            rows = [i for i in range(chunk * size, min((chunk + 1) * size, DISTINCT)) if i != 77]
            values = pa.FixedSizeListArray.from_arrays(pa.array(z[rows].ravel()), D)
            table = pa.table({"image_id": [ids[i] for i in rows], "embedding": values})
            store.write_part(storage, view(name), chunk, table, [])
    order = np.array([i for i in [*range(DISTINCT), 5] if i != 77])
    layouts = {
        Split(seed): Layout(np.sort(rng.integers(3, size=len(order))), rng.integers(CLASSES, size=len(order)),
                     np.random.default_rng(seed).integers(3, size=len(order)), CLASSES, 2)
        for seed in (0, 1)
    }  # fmt: skip
    images = ImageIndex(view(store.ORIGINAL), [ids[i] for i in order], order // size, layouts, NAMES, D)
    return storage, images, {name: z[order] for name, z in arrays.items()}


def arrays_of(cells: Cells) -> dict[tuple[Any, ...], Any]:
    """Return every number of some cells by its place; `cross` only where it is there."""
    found: dict[tuple[Any, ...], Any] = {}
    for cell, moments in cells.moments.items():
        found |= {(cell, name): getattr(moments, name) for name in ("counts", "sums", "outer")}
        for kind, d in moments.differences.items():
            found |= {(cell, kind, name): getattr(d, name) for name in ("n", "total", "outer", "cross")}
    return {place: value for place, value in found.items() if value is not None}


def assert_equal(found: Cells, expected: Cells) -> None:
    ours, theirs = arrays_of(found), arrays_of(expected)
    assert ours.keys() == theirs.keys()
    for place, value in theirs.items():
        np.testing.assert_allclose(ours[place], value, atol=1e-9, err_msg=str(place))


KINDS = [
    Pairing("blur", (view("blur"),)),
    Pairing("one", (view("blur"), view("grey"))),
    Pairing("tenth", (view("grey"),), some=Some(0.1, 3)),
    Pairing(CROSS),
]


@pytest.mark.parametrize("normalize", ["none", "before"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_kind_equals_one_sum_over_all_images(written, normalize: Normalize, seed: int) -> None:  # type: ignore[no-untyped-def]
    storage, images, arrays = written
    assert sum_moments(storage, images, [Split(0), Split(1)], ["raw", "unit"], KINDS) in (0, 4 * len(KINDS) + 4)
    z, blur, grey = (scaled(arrays[name], normalize) for name in (store.ORIGINAL, "blur", "grey"))
    layout = images.layouts[Split(seed)]
    views = {"blur": blur, "one": one_of({"blur": blur, "grey": grey}, images.ids, seed), "tenth": grey}
    drawn = drawn_pairs(layout, 0.1, 3)
    whole = cells_of(layout, z, views, {"tenth": drawn})
    assert sum(m.differences["tenth"].n for m in whole.moments.values()) == drawn.sum() > 490
    expected = whole + cross_cells(layout, z, class_means(whole), NAMES)
    scale: Scale = "unit" if normalize == "before" else "raw"
    assert_equal(read_cells(storage, images, Split(seed), scale, KINDS), expected)
    without = read_cells(storage, images, Split(seed), scale, KINDS, products=False)
    bare = {
        cell: replace(moments, differences={k: replace(d, cross=None) for k, d in moments.differences.items()})
        for cell, moments in expected.moments.items()
    }
    assert_equal(without, replace(expected, moments=bare))


def test_only_what_is_missing_is_summed_and_text_pairs_join(written) -> None:  # type: ignore[no-untyped-def]
    storage, images, _ = written
    sum_moments(storage, images, [Split(0), Split(1)], ["raw", "unit"], KINDS)
    before = {p: p.stat().st_mtime_ns for p in Path(storage.path("moments")).rglob("*.safetensors")}
    assert sum_moments(storage, images, [Split(0)], ["raw"], [*KINDS, Pairing("grey", (view("grey"),))]) == 1
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_pairs_of_texts_belong_to_all_environments_and_a_class_or_to_the_images_they_describe(written) -> None:  # type: ignore[no-untyped-def]
    storage, images, _ = written
    sum_moments(storage, images, [Split(0)], ["raw"], [])
    cells, layout = read_cells(storage, images, Split(0), "raw", []), images.layouts[Split(0)]
    d = np.random.default_rng(0).standard_normal((300, D))
    text = {"text": 1.0}
    classes: list[str | None] = [None if i == 7 else str(i % 4) for i in range(len(d))]  # one pair of unknown class
    names = sorted({c for c in classes if c})
    join = lambda images_: cells + text_cells(TextDifferences(d, classes, images_), names, images.ids, layout)  # noqa: E731
    everywhere = join(None).sources({0: "amber"}, text)
    np.testing.assert_allclose(everywhere.c_d(), d.T @ d / len(d))
    base = np.isin(np.arange(len(d)) % 4, [0, 1]) & (np.arange(len(d)) != 7)  # the first two of the four classes
    opened = join(None).sources({0: "amber"}, text, halves=("base",))
    np.testing.assert_allclose(opened.c_d(), d[base].T @ d[base] / base.sum())
    described = images.ids[: 4 * len(d) : 4][:299]
    described.append("an image that cannot be read")
    rows = np.arange(299) * 4
    either: list[tuple[tuple[Half, ...], Any]] = [
        (("base", "new"), layout.label >= 0),
        (("base",), layout.label < layout.base),
    ]
    for halves, of_half in either:
        seen = ((layout.environment == 0) & (layout.side == 0) & of_half)[rows]
        assert 0 < seen.sum() < 299
        own = join(described).sources({0: "amber"}, text, halves=halves)
        np.testing.assert_allclose(own.c_d(), d[:299][seen].T @ d[:299][seen] / seen.sum())


def test_a_damaged_file_is_named(written) -> None:  # type: ignore[no-untyped-def]
    storage, images, _ = written
    sum_moments(storage, images, [Split(1)], ["raw"], [])
    name = file_of(images, images.digest(Split(1)), SumTask(Split(1), "raw", ()), None)
    content = storage.read_bytes(name)
    storage.write_bytes(name, content[:100])
    with pytest.raises(IcmBenchError, match=r"is damaged .*delete it and run again"):
        read_cells(storage, images, Split(1), "raw", [])
    storage.write_bytes(name, content)


def test_another_split_or_another_order_of_cells_is_another_file(written) -> None:  # type: ignore[no-untyped-def]
    _, images, _ = written
    assert images.digest(Split(0)) != images.digest(Split(1))
    moved = ImageIndex(images.original, images.ids[::-1], images.chunks[::-1], images.layouts, NAMES, D)
    assert moved.digest(Split(0)) != images.digest(Split(0))


def test_any_number_of_kinds_is_summed_within_the_bound_of_memory(written, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    storage, images, _ = written
    sum_moments(storage, images, [Split(0)], ["raw"], KINDS)
    names = [file_of(images, images.digest(Split(0)), SumTask(Split(0), "raw", ()), kind) for kind in (None, *KINDS)]
    at_once = {name: storage.read_bytes(name) for name in names}
    for name in names:
        Path(storage.path(name)).unlink()
    monkeypatch.setattr("benchmark.sweep.summing.MEMORY", 1.0)  # one kind at a time, by one worker
    assert sum_moments(storage, images, [Split(0)], ["raw"], KINDS) == len(names)
    for name, content in at_once.items():
        mine, theirs = (safetensors.numpy.load(c) for c in (storage.read_bytes(name), content))
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            np.testing.assert_allclose(value, theirs[key], atol=1e-9)
