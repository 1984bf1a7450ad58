"""Rank intervals and ties of the board against a dozen lines of NumPy and SciPy. All answers are made up."""

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.common.errors import IcmBenchError
from benchmark.method.arrays import Array, Values
from benchmark.method.evaluation.inference import Scores, harmonic_contributions, image_interval
from benchmark.method.evaluation.multiple_testing import rank_intervals
from benchmark.results import board as module
from benchmark.results.board import Row, board
from benchmark.results.packed import Entry, GroupKey, Groups, Images
from tests.performance.bench_board import made_up

Difference = tuple[float, float, float]  # estimate, variance, degrees of freedom
Identity = tuple[str, ...]


def difference(d: Array, environment: Values, seed: Values, unit: Values) -> Difference:
    """A cluster-robust difference, where all seeds test the same images."""
    (units, cluster), environments, seeds = (
        np.unique(unit, return_inverse=True),
        np.unique(environment),
        np.unique(seed),
    )
    u, means = np.zeros((len(seeds), len(units))), np.zeros((len(seeds), len(environments)))
    for s, e in np.ndindex(means.shape):
        here = (seed == seeds[s]) & (environment == environments[e])
        means[s, e] = d[here].mean()
        np.add.at(u[s], cluster[here], (d[here] - means[s, e]) / here.sum() / len(environments))
    factor = len(units) / (len(units) - 1)
    v_image, v_seed = factor * (u.mean(axis=0) ** 2).sum(), 0.0
    if len(seeds) > 1:
        delta = [(means[s].mean() - means[t].mean()) ** 2 for s, t in combinations(range(len(seeds)), 2)]
        explained = [factor * ((u[s] - u[t]) ** 2).sum() for s, t in combinations(range(len(seeds)), 2)]
        v_seed = (1 - 1 / len(seeds)) * max(0, np.mean(delta) - np.mean(explained)) / 2 / len(seeds)
    v = v_image + v_seed
    freedom = v**2 / (v_image**2 / (len(units) - 1) + v_seed**2 / len(seeds)) if v else 1
    return means.mean(), v, freedom


def pooled(parts: list[Difference]) -> Difference:
    of_set = [(v / len(parts) ** 2, freedom) for _, v, freedom in parts]
    v = sum(part for part, _ in of_set)
    return float(np.mean([d for d, _, _ in parts])), v, v**2 / sum(p**2 / f for p, f in of_set) if v else 1


def ranks(
    names: list[Identity], pairs: dict[tuple[Identity, Identity], Difference], best: Identity
) -> dict[Identity, tuple[int, int, bool]]:
    """Return best rank, worst rank and tie of each entry, by Holm over all pairs."""
    p = [2 * stats.t.sf(abs(d) / np.sqrt(v), freedom) if v else 1.0 for d, v, freedom in pairs.values()]
    shown = multipletests(p, 0.05, method="holm")[0]
    beaten = [(i, j) if d > 0 else (j, i) for ((i, j), (d, _, _)), yes in zip(pairs.items(), shown, strict=True) if yes]
    compared = {frozenset(pair) for pair in pairs}
    return {
        name: (
            1 + sum(loser == name for _, loser in beaten),
            len(names) - sum(winner == name for winner, _ in beaten),
            (best, name) not in beaten and (name == best or frozenset((name, best)) in compared),
        )
        for name in names
    }


def references(groups: Groups) -> dict[str, dict[Identity, tuple[int, int, bool]]]:
    """Return the ranks of each data set, and over data sets ("")."""
    found, every = {}, defaultdict(list)
    means: dict[Identity, list[float]] = defaultdict(list)
    for key, (images, entries) in groups.items():
        common = np.logical_and.reduce([one.answered for one in entries])
        where = [of_all[common] for of_all in (images.held_out, images.seed, images.unit)]
        of = {one.identity: one.correct[common].astype(float) for one in entries if not one.marked}
        pairs = {(i, j): difference(of[i] - of[j], *where) for i, j in combinations(sorted(of), 2)}
        accuracies = {name: difference(correct, *where)[0] for name, correct in of.items()}
        for name, accuracy in accuracies.items():
            means[name].append(accuracy)
        for pair, one in pairs.items():
            every[pair].append(one)
        found[key.dataset] = ranks(sorted(of), pairs, max(sorted(of), key=lambda name: accuracies[name]))
    complete = [name for name in sorted(means) if len(means[name]) == len(groups)]
    best = max(complete, key=lambda name: np.mean(means[name]))
    return found | {"": ranks(sorted(means), {pair: pooled(parts) for pair, parts in every.items()}, best)}


def got(rows: list[Row]) -> dict[str, dict[Identity, tuple[int, int, bool]]]:
    found: dict[str, dict[Identity, tuple[int, int, bool]]] = defaultdict(dict)
    for row in rows:
        if not row.entry.marked:
            assert row.best_rank is not None
            assert row.worst_rank is not None
            view = row.key.dataset if row.key.fingerprint else ""
            found[view][row.entry.identity] = row.best_rank, row.worst_rank, row.tied_with_best
    return found


def with_seed_effects(groups: Groups) -> Groups:
    """Let each entry lose some answers under one of the seeds, more than its images explain."""
    rng, found = np.random.default_rng(1), {}
    for key, (images, entries) in groups.items():
        changed = []
        for one in entries:
            lost = (images.seed == rng.integers(len(key.seeds))) & (rng.random(len(images.seed)) < 0.2 * rng.random())
            changed.append(replace(one, correct=one.correct & ~lost))
        found[key] = images, changed
    return found


@pytest.mark.parametrize("groups", [0, 90], ids=["images", "groups"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_ranks_and_ties_are_those_of_all_pairs_one_by_one(seeds: int, groups: int) -> None:
    made = made_up(6, 3, 3, 500, seeds, groups, bounds=2)
    (first, second, third), rng = made, np.random.default_rng(0)
    made = dict(with_seed_effects(made)) if seeds > 1 else dict(made)
    images, entries = made[second]  # two entries lack some images
    gone_of = {k: np.tile(rng.random(500) < 0.03, seeds) for k in (1, 4)}
    unanswered = [gone_of.get(k, images.seed < 0) for k in range(len(entries))]
    lacking = [replace(one, answered=~gone, correct=one.correct & ~gone)
               for one, gone in zip(entries, unanswered, strict=True)]  # fmt: skip
    made[second] = images, lacking
    images, entries = made[third]  # two encoders lack this set
    made[third] = images, [one for one in entries if one.model_id not in ("made-up/encoder-1", "made-up/encoder-5")]
    rows, expected = board(made), references(made)
    assert got(rows) == expected
    assert all(1 < sum(tied for *_, tied in of_view.values()) < len(of_view) for of_view in expected.values())
    common = np.logical_and.reduce([one.answered for one in lacking])
    on_common = len(np.unique(made[second][0].sample[common]))
    assert {row.images for row in rows if row.sets == (second.dataset,)} == {on_common}
    assert on_common < 500
    assert {row.images for row in rows if row.sets == (first.dataset,)} == {500}


def one_group(correct: Array, held_out: Values, seed: Values, unit: Values, half: Values | None = None) -> Groups:
    n, count = len(held_out), iter(range(len(correct)))
    half = np.full(n, "all") if half is None else half
    images = Images(np.array([f"{k}" for k in range(n)]), held_out, unit, np.full(n, "c"), seed, half)
    entries = [
        Entry(f"{k}.json", "m/e", "e", f"method {k:03}", "zero-shot", "lodo", False, k == 0, np.ones(n, bool), row > 0)
        for k, row in zip(count, correct, strict=True)
    ]
    kind = "harmonic" if (half == "new").any() else "all"
    return {
        GroupKey("set", "f", "p", "s", kind, 0, tuple(np.unique(seed)), tuple(np.unique(held_out))): (images, entries)
    }


CASES = ("one seed", "one seed, in blocks", "overlapping seeds", "constant", "few", "equal", "harmonic", "one")


@pytest.mark.parametrize("case", CASES)
def test_they_are_those_of_rank_intervals(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(CASES.index(case))
    image = np.arange(400)
    seed, held_out = np.zeros(400, dtype=np.int64), np.repeat(["a", "b"], [250, 150])
    if case == "overlapping seeds":
        taken = [rng.permutation(400)[:300] for _ in range(3)]
        image, seed = np.concatenate(taken), np.repeat([0, 1, 2], 300)
        held_out = held_out[image]
    if case == "few":
        image, seed, held_out = (of_all[:258] for of_all in (image, seed, held_out))
    difficulty = rng.random(400)[image]
    methods = 1 if case == "one" else 7
    correct = np.array([difficulty + rng.normal(0, 0.2, len(image)) < 0.4 + 0.06 * (k // 2) for k in range(methods)])
    if case == "constant":  # methods that differ on all images of an environment, or on all images
        correct[:3] = np.array([held_out == "a", held_out == "b", held_out == "z"])
        correct[3:5] = True
    if case == "equal":
        correct[:] = correct[0]
    half = np.array(["base", "new"])[image % 2] if case == "harmonic" else None
    if case == "one seed, in blocks":
        monkeypatch.setattr(module, "_BLOCK", 3 * len(image))
    ((key, group),) = one_group(correct, held_out, seed, image, half).items()
    row_of = {row.entry.method: row for row in board({key: group})}
    where = [np.unique(of_all, return_inverse=True)[1] for of_all in (held_out, seed, image)]
    scores = Scores(correct.astype(float), *where)
    if half is not None:
        scores = harmonic_contributions(scores, half == "new")
    ranking = rank_intervals(scores)
    pairs = module._standings(key, *group).pairs
    np.testing.assert_allclose(pairs.p, [one.p for one in ranking.differences.values()], rtol=1e-9)
    np.testing.assert_allclose(pairs.estimate, [one.estimate for one in ranking.differences.values()], atol=1e-12)
    for k in range(methods):
        row, interval = row_of[f"method {k:03}"], image_interval(replace(scores, values=scores.values[k]))
        assert (row.best_rank, row.worst_rank) == (ranking.highest[k], ranking.lowest[k])
        assert row.tied_with_best == ranking.tied_with_best[k]
        found = np.array([row.interval.estimate, row.interval.low, row.interval.high])
        np.testing.assert_allclose(found, [interval.estimate, interval.low, interval.high], atol=1e-12)
    assert row_of["method 000"].key.class_half == ("harmonic" if case == "harmonic" else "all")


def test_rows_are_by_accuracy_and_a_bound_has_no_rank() -> None:
    rows = board(made_up(4, 1, 2, 400, bounds=4))
    ranked = [row for row in rows if not row.entry.marked]
    assert [row.entry.marked for row in rows] == [False] * 8 + [True] * 4
    assert [row.interval.estimate for row in ranked] == sorted((row.interval.estimate for row in ranked), reverse=True)
    assert {(row.best_rank, row.worst_rank, row.tied_with_best) for row in rows if row.entry.marked} == {
        (None, None, False)
    }
    assert {row.ranked for row in rows} == {8}
    assert max(row.worst_rank or 0 for row in rows) == 8
    assert all(row.interval.low < row.interval.estimate < row.interval.high for row in rows)


def test_a_group_of_bounds_alone_has_no_ranks() -> None:
    (of_set, *_) = [[one for one in entries if one.marked] for _, entries in made_up(4, 1, 2, 400, bounds=2).values()]
    ((key, (images, _)),) = made_up(4, 1, 2, 400).items()
    second = replace(key, dataset="other")
    rows = board({key: (images, of_set), second: (images, of_set)})
    assert {(row.best_rank, row.worst_rank, row.ranked, row.tied_with_best) for row in rows} == {(None, None, 0, False)}
    assert [len(row.sets) for row in rows] == [2, 2, 1, 1, 1, 1]
    assert all(
        one.interval.estimate >= next_.interval.estimate for one, next_ in zip(rows[::2], rows[1::2], strict=True)
    )


def test_a_data_set_with_two_protocols_is_compared_within_each() -> None:
    ((key, group),) = made_up(3, 1, 2, 400).items()
    other, smaller = replace(key, protocol="other"), replace(key, folds=3)
    rows = board({key: group, other: group, smaller: (group[0], group[1][:3])})
    assert not any(not row.key.fingerprint for row in rows)
    assert [sum(row.key.protocol == name for row in rows) for name in (key.protocol, "other")] == [9, 6]
    ((second, of_second),) = [one for one in made_up(3, 2, 2, 400).items() if one[0].dataset != key.dataset]
    rows = [
        row
        for row in board({key: group, smaller: (group[0], group[1][:3]), second: of_second})
        if not row.key.fingerprint
    ]
    assert len(rows) == 6  # the group with more entries counts
    assert {row.sets for row in rows} == {(key.dataset, second.dataset)}


def test_entries_that_share_no_data_set_are_not_tied() -> None:
    (first, of_first), (second, of_second) = made_up(3, 2, 1, 400).items()
    apart = {first: (of_first[0], of_first[1][:2]), second: (of_second[0], of_second[1][2:])}
    rows = [row for row in board(apart) if not row.key.fingerprint]
    assert len({row.sets for row in rows if row.tied_with_best}) == 1
    (alone,) = [row for row in rows if row.sets == (second.dataset,)]
    assert (alone.best_rank, alone.worst_rank) == (1, 3)


def test_an_entry_without_a_data_set_comes_last_and_is_not_the_best() -> None:
    (first, (images, entries)), (second, of_second) = made_up(3, 2, 1, 400).items()
    perfect = [replace(entries[0], correct=np.ones(400, dtype=bool)), *entries[1:]]
    rows = [row for row in board({first: (images, perfect), second: (of_second[0], of_second[1][1:])})
            if not row.key.fingerprint]  # fmt: skip
    assert [len(row.sets) for row in rows] == [2, 2, 1]
    assert rows[0].tied_with_best
    assert (rows[2].best_rank, rows[2].worst_rank, rows[2].interval.estimate) == (1, 1, 1.0)


def test_no_common_image_in_an_environment_is_refused() -> None:
    ((key, (images, entries)),) = made_up(3, 1, 1, 400).items()
    lacking = [replace(entries[0], answered=images.held_out != "photo"), *entries[1:]]
    with pytest.raises(IcmBenchError, match=f"no common image in the environment photo; remove {entries[0].record}"):
        board({key: (images, lacking)})
