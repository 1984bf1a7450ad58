"""Share of the shift of class means that a map removes, against loops over classes, environments and images."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.method.evaluation.spans import Shift, class_shift, moved, removed
from benchmark.method.subspace import Basis, Moments, SourceMoments, invariant_basis, shrinkage_basis

Array = NDArray[np.float64]
D, CLASSES = 6, 4


def drawn(seed: int, n: int, shift: Array, classes: Array) -> tuple[Array, NDArray[np.int64]]:
    """Embeddings of one environment and their labels; class 3 is missing from environments of an even seed."""
    rng = np.random.default_rng(seed)
    label = rng.integers(CLASSES if seed % 2 else CLASSES - 1, size=n)
    return classes[label] + shift + 0.5 * rng.standard_normal((n, D)), label


@pytest.fixture
def environments() -> list[tuple[Array, NDArray[np.int64]]]:
    rng = np.random.default_rng(0)
    classes = rng.standard_normal((CLASSES, D))
    return [drawn(seed, 30 + 7 * seed, rng.standard_normal(D), classes) for seed in range(4)]


def sums(environment: tuple[Array, NDArray[np.int64]]) -> Moments:
    z, label = environment
    return Moments.of(z, {"view": z * [1, 1, 1, 0.5, 0.8, 1]}, label, CLASSES)


def source_moments(environments: list[tuple[Array, NDArray[np.int64]]]) -> SourceMoments:
    return SourceMoments({str(i): sums(e) for i, e in enumerate(environments)})


def reference(targets: list[tuple[Array, NDArray[np.int64]]], sources: list[tuple[Array, NDArray[np.int64]]]) -> Array:
    """S, loop by loop."""
    deltas, noise, classes = [], [], range(1 + max(label.max() for _, label in [*targets, *sources]))
    for target in targets:
        for c in classes:
            others = [s for s in sources if s is not target and (s[1] == c).any()]
            if not others or not (target[1] == c).any():
                continue
            theirs = np.mean([s[0][s[1] == c].mean(0) for s in others], axis=0)
            deltas.append(target[0][target[1] == c].mean(0) - theirs)
            noise.append(1 / (target[1] == c).sum() + sum(1 / (s[1] == c).sum() for s in others) / len(others) ** 2)
    cells = [z[label == c] for z, label in sources for c in classes if (label == c).any()]
    within = sum((cell - cell.mean(0)).T @ (cell - cell.mean(0)) for cell in cells) / sum(len(c) - 1 for c in cells)
    return np.asarray(np.mean([np.outer(d, d) for d in deltas], axis=0) - np.mean(noise) * within)


def test_the_shift_is_that_of_class_means_less_what_few_images_make(environments) -> None:  # type: ignore[no-untyped-def]
    *sources, target = environments
    of_sources = source_moments(sources)
    first, *_ = every = [*of_sources.environments.values()]
    cases = [(every, sources), ([sums(target)], [target]), ([sums(target), first], [target, sources[0]])]
    for of_environments, those in cases:
        shift, expected = class_shift(of_environments, of_sources), reference(those, sources)
        assert shift is not None
        np.testing.assert_allclose(shift.moment(of_sources.c_z()), expected, atol=1e-12)
        assert shift.trace == pytest.approx(np.trace(expected))
        c = np.diag(np.arange(1.0, D + 1))
        assert shift.with_(c, of_sources.c_z()) == pytest.approx(np.trace(expected @ c))


def test_what_few_images_make_is_no_shift_on_average() -> None:
    """The trace of S over 400 worlds whose environments do not differ, and over some that differ by a known shift."""
    classes = np.random.default_rng(1).standard_normal((CLASSES, D))
    away = np.array([0.3, 0, 0, 0, 0, 0])
    traces = []
    for world in range(400):
        here, there = (drawn(2 * world + i + 1001, 40, i * away, classes) for i in range(2))
        shift = reference([there], [here])
        known = class_shift([sums(there)], source_moments([here]))
        assert (known is None) == (np.trace(shift) <= 0)
        traces.append(np.trace(shift))
    assert np.mean(traces) == pytest.approx(0.09, abs=3.3 * np.std(traces) / 20)


def test_without_a_second_environment_or_a_second_image_there_is_no_shift(environments) -> None:  # type: ignore[no-untyped-def]
    alone = source_moments(environments[:1])
    assert class_shift([*alone.environments.values()], alone) is class_shift([], alone) is None
    single = SourceMoments({str(i): Moments.of(np.eye(D)[[i]], None, np.array([0]), CLASSES) for i in range(2)})
    # Nothing says how much images of a class differ.
    assert class_shift([*single.environments.values()], single) is None
    z, _ = environments[1]
    of_class = [Moments.of(z, None, np.full(len(z), c), CLASSES) for c in (1, 2)]
    assert class_shift(of_class[:1], SourceMoments({"other": of_class[1]})) is None


def kept(basis: Basis, k: int, z: Array) -> Array:
    """The part of embeddings that a map of rank k keeps in inner products with texts."""
    t = np.eye(D)
    return (z @ basis.vectors[:, :k]) @ (t @ basis.texts[:, :k]).T


@pytest.mark.parametrize("name", ["truncation", "symmetric", "images", "texts", "oblique"])
def test_what_is_removed_is_what_inner_products_with_texts_miss(environments, name: str) -> None:  # type: ignore[no-untyped-def]
    sources = source_moments(environments)
    oblique = np.random.default_rng(5).standard_normal((2, D, D))
    basis = {
        "truncation": lambda: invariant_basis(sources, 2.0),
        "oblique": lambda: Basis(oblique[0], None, oblique[1]),
    }.get(name, lambda: shrinkage_basis(sources, 2.0, "both", name))()  # type: ignore[arg-type]
    z = np.concatenate([e[0] for e in environments])
    shift = class_shift([*sources.environments.values()], sources)
    assert shift is not None
    s = reference(environments, environments)
    by_rank = removed(basis, sources.c_z(), [shift])
    for k in range(1, D + 1):
        assert by_rank[0][k - 1] == pytest.approx(np.sum((z - kept(basis, k, z)) ** 2) / np.sum(z**2), abs=1e-12)
        rest = np.eye(D) - kept(basis, k, np.eye(D))
        assert by_rank[1][k - 1] == pytest.approx(np.trace(rest.T @ s @ rest) / np.trace(s), abs=1e-12)
    whole = removed(basis, sources.c_z(), [shift], full_rank_only=True)
    np.testing.assert_allclose(whole, [share[-1:] for share in by_rank], atol=1e-12)
    if name in ("images", "texts"):  # F = C_z (C_z + lambda N)^-1 on either side
        b = np.cov([e[0].mean(0) for e in environments], rowvar=False, bias=True)
        c_d = sources.c_d()
        f = sources.c_z() @ np.linalg.inv(sources.c_z() + 2 * (c_d + np.trace(c_d) / np.trace(b) * b))
        assert by_rank[0][-1] == pytest.approx(np.sum((z - z @ f.T) ** 2) / np.sum(z**2))


def test_an_intervention_that_moves_what_shifts_moves_it_more_than_the_average() -> None:
    c_z, shift = np.diag([4.0, 1.0, 1.0]), Shift(np.array([[0.0, 1.0, 0.0]]), np.ones(1), 0.0, 1.0)
    assert moved(shift, np.diag([0.0, 0.5, 0.0]), c_z) == pytest.approx(6.0)  # 0.5 / 1 over 0.5 / 6
    assert moved(shift, 0.3 * c_z, c_z) == pytest.approx(1.0)
    assert moved(shift, np.diag([1.0, 0.0, 0.0]), c_z) == 0
    assert moved(shift, np.zeros((3, 3)), c_z) is None
    d = np.array([1.0, -2.0, 0.5])
    c_d = np.array([[2.0, 0.1, 0.0], [0.1, 1.0, 0.3], [0.0, 0.3, 0.4]])
    one = (d @ c_d @ d) / (d @ c_z @ d) / (np.trace(c_d) / np.trace(c_z))
    assert moved(Shift(d[None], np.ones(1), 0.0, float(d @ d)), c_d, c_z) == pytest.approx(one)
