"""Caching of decompositions between fits: one decomposition, cached objects, unchanged answers."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from benchmark.method.arrays import Array
from benchmark.method.evaluation.cells import Cells, Layout, cells_of, paired_cells
from benchmark.method.subspace import PROJECTIONS, Basis, Projection, basis, invariant, moments
from benchmark.method.subspace.moments import TOGETHER, Placebo
from benchmark.method.subspace.placebos import Rotated

D, CLASSES, NAMES, SIDES, LAMBDAS = 6, 3, {0: "art", 1: "cartoon", 2: "photo"}, range(3), (0.0, 0.3, 2.0)
WEIGHTS = {"blur": 1.0, "grey": 2.0}
CANDIDATES = ["interventions", "environments", "both"]


def cells(kinds: Collection[str] = tuple(WEIGHTS), together: Mapping[str, float] | None = None) -> Cells:
    rng, n = np.random.default_rng(4), 180
    layout = Layout(np.arange(n) % 3, rng.integers(CLASSES, size=n), np.arange(n) // 3 % 3, CLASSES, 2)
    z = rng.standard_normal((n, D)) * np.arange(1, D + 1) + layout.environment[:, None]
    views = {kind: z + len(kind) * rng.standard_normal((n, D)) for kind in kinds}
    if not together:
        return cells_of(layout, z, views)
    one = paired_cells(layout, z, [*views.values()], [together[kind] for kind in kinds], TOGETHER)
    return replace(cells_of(layout, z, {}) + one, together=together)


def asked() -> list[tuple[dict[int, str], frozenset[int]]]:
    """Moments for the fits of a setting: without one environment, and without one side or two."""
    some = [frozenset(s) for k in (1, 2) for s in combinations(SIDES, k)]
    return [({e: n for e, n in NAMES.items() if e != out}, sides) for out in NAMES for sides in some]


def trials() -> Iterator[Projection]:
    yield from (PROJECTIONS.create({"name": "pca", "centered": centered}) for centered in (False, True))
    for name in (
        "icm", {"name": "icm", "order": "released"}, {"name": "icm", "nuisance": CANDIDATES}, "shrinkage", "fixed",
        {"name": "shrinkage", "sides": "images"}, "isotropic", {"name": "icm", "centered": True},
    ):  # fmt: skip
        for setting in PROJECTIONS.create(name).settings:
            lambdas = (10.0,) if name == "fixed" else LAMBDAS
            yield from (setting.at(lambda_=lambda_) for lambda_ in lambdas)


def fitted(
    of: Cells, projection: Projection, placebo: Placebo | None = None, weights: Mapping[str, float] = WEIGHTS
) -> list[Basis]:
    return [projection.fit(of.sources(e, None, sides).reweighted(weights, placebo)) for e, sides in asked()]


@pytest.fixture
def decompositions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The matrices of which eigenvectors were asked for."""
    matrices: list[bytes] = []

    def counting(decompose: Callable[..., Any]) -> Callable[..., Any]:
        def counted(matrix: Array, *args: bool, **kwargs: bool) -> Any:
            matrices.extend([np.asarray(matrix).tobytes()] * bool(matrix.size))
            return decompose(matrix, *args, **kwargs)

        return counted

    monkeypatch.setattr(np.linalg, "eigh", counting(np.linalg.eigh))
    counted = counting(basis.eigenbasis)
    for module in (basis, invariant):
        monkeypatch.setattr(module, "eigenbasis", counted)
    return matrices


def test_each_matrix_is_decomposed_once_for_all_trials(decompositions: list[bytes]) -> None:
    shared = cells()
    for projection in trials():
        fitted(shared, projection)
    # C_z once for PCA, lambda 0 and roots; centred; C_z - lambda N of three N and two lambdas, and of centred C_z; the
    # filters of four N.
    assert len(decompositions) == len(asked()) * (1 + 1 + 3 * 2 + 2 + 4)
    assert max(Counter(decompositions).values()) == 1


def test_the_draws_of_a_placebo_are_not_kept_but_what_does_not_depend_on_them_is(decompositions: list[bytes]) -> None:
    shared, projection = cells(), PROJECTIONS.create({"name": "shrinkage", "nuisance": CANDIDATES})
    for draw in range(3):
        for setting in projection.settings:
            for lambda_ in LAMBDAS:
                fitted(shared, setting.at(lambda_=lambda_), Rotated(0, draw))
    assert len(decompositions) == len(asked()) * (1 + 1 + 3 * 2)  # C_z; environments; two N of each of three draws
    assert not [key for s in shared._sources.values() for key in s._cache if "Rotated" in repr(key)]
    for draw in range(2):
        of_draw, alone = (fitted(c, projection.settings[0], Rotated(0, draw)) for c in (shared, cells()))
        np.testing.assert_array_equal(of_draw[0].vectors, alone[0].vectors)


def test_another_intervention_set_of_the_same_images_shares_what_is_made_of_these(decompositions: list[bytes]) -> None:
    truncation, others = PROJECTIONS.create("icm").at(lambda_=2.0), {"invert": 1.0, "solarize": 2.0}
    first, second = cells(WEIGHTS, WEIGHTS), cells(others, others)
    alone = [basis for p in (PROJECTIONS.create("pca"), truncation) for basis in fitted(second, p, None, others)]
    for projection in (PROJECTIONS.create("pca"), truncation):
        fitted(first, projection)
    decompositions.clear()
    second = cells(others, others).after(first)
    again = [basis for p in (PROJECTIONS.create("pca"), truncation) for basis in fitted(second, p, None, others)]
    assert len(decompositions) == len(asked())  # C_z - lambda C_d belongs to its set
    for one, other in zip(alone, again, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize("most", [0, 50_000, 2**30])
def test_what_is_kept_changes_no_basis(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MAX_KEPT_BYTES", most)
    shared = cells()
    for _ in range(2):
        for projection in trials():
            for kept, alone in zip(fitted(shared, projection), fitted(cells(), projection), strict=True):
                for of_kept, of_alone in ((kept.vectors, alone.vectors), (kept.texts, alone.texts)):
                    np.testing.assert_array_equal(of_kept, of_alone)
    held = [made for sources in shared._sources.values() for made in sources._cache.values()]
    size = sum(map(moments.size_of, held))
    assert size <= most
    assert (size > 0) == (most > 0)


@pytest.mark.parametrize("order", ["largest", "released"])
def test_both_orders_are_those_of_one_decomposition(order: str) -> None:
    sources = cells().sources(NAMES, WEIGHTS)
    found = PROJECTIONS.create({"name": "icm", "order": order}).at(lambda_=0.3).fit(sources)
    m = sources.c_z() - 0.3 * sources.c_d()
    values, vectors = np.linalg.eigh((m + m.T) / 2)
    wanted = values[::-1] if order == "largest" else values, vectors[:, ::-1] if order == "largest" else vectors
    np.testing.assert_allclose(found.vectors, basis.with_fixed_signs(wanted[1]), atol=1e-13)
    assert found.spectrum is not None
    np.testing.assert_allclose(found.spectrum, wanted[0], atol=1e-13)
    assert found.vectors.flags.c_contiguous


def test_sources_are_the_same_for_all_that_ask() -> None:
    shared = cells()
    one, other = (shared.sources(NAMES, weights) for weights in (None, WEIGHTS))
    assert one.images is other.images


def test_a_fit_for_choice_is_in_single_precision_and_a_reported_one_never() -> None:
    projection, sources = PROJECTIONS.create("icm").at(lambda_=0.3), cells().sources(NAMES, WEIGHTS)
    for_choice = projection.fit(sources.reweighted(WEIGHTS, None, for_choice=True)).vectors
    found = projection.fit(sources).vectors
    np.testing.assert_array_equal(found, projection.fit(cells().sources(NAMES, WEIGHTS)).vectors)
    np.testing.assert_allclose(for_choice, found, atol=1e-5)
    assert np.abs(for_choice - found).max() > 1e-9
