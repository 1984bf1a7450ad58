"""Moments from embeddings, in a worker or for the store, equal those of all embeddings at once."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

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
    paired_cells,
    partners,
)
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace.moments import CROSS
from benchmark.store import embeddings as store
from benchmark.store.embeddings import TextDifferences, View
from benchmark.sweep import summing
from benchmark.sweep.loading import text_cells
from benchmark.sweep.summing import (
    ImageIndex,
    Pairing,
    Shuffle,
    Some,
    SumTask,
    distinct,
    file_of,
    fitting,
    read_cells,
    stored,
    sum_missing,
    summed,
)  # fmt: skip

DISTINCT, D, CLASSES, NAMES = 5000, 6, 4, ["amber", "blue", "cyan"]  # more than one block, and more than one range

pytestmark = pytest.mark.usefixtures("local_ray")


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


def assert_equal(found: Cells, expected: Cells, within: float = 1e-9) -> None:
    ours, theirs = arrays_of(found), arrays_of(expected)
    assert ours.keys() == theirs.keys()
    for place, value in theirs.items():
        np.testing.assert_allclose(ours[place], value, atol=within, rtol=1e-7 if within else 0, err_msg=str(place))


KINDS = [
    Pairing("blur", (view("blur"),)),
    Pairing("one", (view("blur"), view("grey"))),
    Pairing("both", (view("blur"), view("grey")), (1.0, 3.0)),
    Pairing("tenth", (view("grey"),), some=Some(0.1, 3)),
    Pairing("shuffled", (view("blur"), view("grey")), (1.0, 3.0), Shuffle(2, 7)),
    Pairing(CROSS),
]


def tasks(split: Split, scale: Scale, halves: bool = True, products: bool = False) -> list[SumTask]:
    images = SumTask(split, scale, halves)
    return [images, *(replace(images, pairing=pairing, products=products) for pairing in KINDS)]


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("normalize", ["none", "before"])
def test_every_kind_equals_one_sum_over_all_images(written, normalize: Normalize, halves: bool) -> None:  # type: ignore[no-untyped-def]
    storage, images, arrays = written
    split = Split(0)
    scale: Scale = "unit" if normalize == "before" else "raw"
    z, blur, grey = (scaled(arrays[name], normalize) for name in (store.ORIGINAL, "blur", "grey"))
    whole = images.layouts[split]
    layout = whole if halves else replace(whole, base=CLASSES)
    drawn, partner = drawn_pairs(whole, 0.1, 3), partners(whole, 2, 7)  # of a placebo: always from the same half
    one = one_of({"blur": blur, "grey": grey}, images.ids, 0)
    pairs: dict[str, tuple[list[np.ndarray], list[float]]] = {
        "blur": ([blur], []),
        "one": ([one], []),
        "both": ([blur, grey], [1.0, 3.0]),
    }
    pairs["shuffled"] = [blur[partner], grey[partner]], [1.0, 3.0]
    for products in (False, True):
        expected = cells_of(layout, z, {})
        expected = expected + cross_cells(layout, z, class_means(expected), NAMES)
        for kind, (views, weights) in pairs.items():
            expected = expected + paired_cells(layout, z, views, weights, kind, None, products)
        expected = expected + paired_cells(layout, z, [grey], [], "tenth", drawn, products)
        assert sum(m.differences["tenth"].n for m in expected.moments.values()) == drawn.sum() > 490
        asked = tasks(split, scale, halves, products)
        assert_equal(read_cells(storage, images, asked, partial(stored, storage, images)), expected)


def test_stored_sums_are_those_of_a_worker_to_the_last_digit_whatever_is_missing(written) -> None:  # type: ignore[no-untyped-def]
    storage, images, arrays = written
    read = lambda view_, rows: arrays[view_.depends_on["view"]][rows]  # noqa: E731  mapped
    asked = tasks(Split(1), "unit", halves=False)
    alone = read_cells(storage, images, asked, read)
    of_store = distinct([*asked, *asked])
    assert [task.is_crossed for task in of_store] == [False] * 6 + [True]
    assert sum_missing(storage, images, of_store[:2]) == 2
    assert sum_missing(storage, images, of_store[:6]) == 4
    before = {p: p.stat().st_mtime_ns for p in Path(storage.path("sums")).rglob("*.safetensors")}
    assert sum_missing(storage, images, of_store[:6]) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert_equal(read_cells(storage, images, asked, read), alone, within=0)
    for task in of_store[:6]:  # one triangle of each matrix; the plan says at most so much
        size = Path(storage.path(file_of(images, task))).stat().st_size
        assert 0.8 * size - 1000 < task.size(3, CLASSES, D) * 3 / 2 < size + 1000  # three sides here


def test_sums_of_halves_serve_protocols_without_them(written, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    storage, images, _ = written
    whole, apart = (tasks(Split(0), "raw", halves)[:2] for halves in (False, True))
    assert distinct([*whole, *apart]) == apart
    sum_missing(storage, images, apart)
    read = partial(stored, storage, images)
    expected = summed(images, whole[0], read)
    monkeypatch.setattr(summing, "summed", None)  # nothing is summed again
    found = read_cells(storage, images, whole, read)
    assert {half for _, _, half in found.moments} == {"base", "new"}
    for e, side, _ in expected.moments:
        ours, theirs = (c.sum_of(e, frozenset([side]), ("base", "new")) for c in (found, expected))
        assert ours
        assert theirs
        np.testing.assert_allclose(ours.outer, theirs.outer, atol=1e-9)


def test_sums_are_stored_as_long_as_they_fit() -> None:
    assert fitting([5, 5, 5], 10) == 2
    assert fitting([5, 5], 4) == 0
    assert fitting([], 1) == 0
    assert not replace(SumTask(Split(0), "raw", False, KINDS[0]), products=True).may_be_stored


def test_pairs_of_texts_belong_to_all_environments_and_a_class_or_to_the_images_they_describe(written) -> None:  # type: ignore[no-untyped-def]
    storage, images, _ = written
    cells = read_cells(storage, images, tasks(Split(0), "raw")[:1], partial(stored, storage, images))
    layout = images.layouts[Split(0)]
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
    asked = tasks(Split(1), "raw")[:1]
    sum_missing(storage, images, asked)
    name = file_of(images, asked[0])
    content = storage.read_bytes(name)
    storage.write_bytes(name, content[:100])
    for use in (
        partial(read_cells, storage, images, asked, partial(stored, storage, images)),
        partial(sum_missing, storage, images, asked),
    ):
        with pytest.raises(IcmBenchError, match=r"its digest differs.*delete it and run again"):
            use()
    storage.delete(name)


def test_another_split_or_another_order_of_cells_is_another_file(written) -> None:  # type: ignore[no-untyped-def]
    _, images, _ = written
    assert images.digest(Split(0)) != images.digest(Split(1))
    moved = ImageIndex(images.original, images.ids[::-1], images.chunks[::-1], images.layouts, NAMES, D)
    assert moved.digest(Split(0)) != images.digest(Split(0))
