"""Paired comparisons against NumPy and SciPy references. All rows are synthetic."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmark.method.evaluation.metrics import BALANCED
from reports.analysis.comparisons import Adjusted, Comparison, compare, in_family, over_data_sets, ranked, to_records
from reports.analysis.methods import Method
from tests.reports.synthetic import only, row

ICM = Method("icm", "largest", "zero_shot")
PLAIN = Method("identity", None, "zero_shot")
N = 1000
RIGHT = [i < 550 for i in range(N)], [450 <= i < 950 for i in range(N)]  # 450 wins, 400 losses
D = np.array(RIGHT[0], float) - np.array(RIGHT[1], float)


def pair(right: Any = RIGHT, **other: Any) -> list[dict[str, Any]]:
    return [row(projection="icm", order="largest", correct=right[0], **other), row(correct=right[1], **other)]


def compared(rows: list[dict[str, Any]], rule: str = "lodo") -> Comparison:
    found = compare(only(rows)[1], ICM, rule, PLAIN)
    assert found is not None
    return found


def test_one_environment_and_one_seed_is_a_paired_t_test_and_mcnemars() -> None:
    one = compared(pair())
    reference = stats.ttest_rel(*np.array(RIGHT, float))
    assert one.interval.estimate == pytest.approx(0.05)
    assert one.interval.p == pytest.approx(reference.pvalue)
    low, high = reference.confidence_interval()
    assert (one.interval.low, one.interval.high) == pytest.approx((low, high))
    [changed] = one.changed
    assert changed == (450, 400)
    assert to_records(one, 0.01)[1]["p_mcnemar"] == pytest.approx(stats.binomtest(450, 850).pvalue)


def test_seeds_that_test_the_same_images_do_not_make_it_narrower_nor_wider() -> None:
    seeds = compared([r for s in range(4) for r in pair(seed=s)])
    assert seeds.interval.standard_error == pytest.approx(D.std(ddof=1) / np.sqrt(N))
    assert seeds.changed == ()
    assert (seeds.size.units, seeds.size.units_per_seed) == (N, N)
    apart = compared([r for s in range(4) for r in pair(seed=s, first=s * N)])
    assert apart.size.units == 4 * N
    assert apart.interval.standard_error == pytest.approx(D.std(ddof=1) / np.sqrt(4 * N), rel=1e-3)


def test_folds_are_one_test_of_all_images() -> None:
    folds: dict[str, Any] = {"folds": 2, "test_split": "out_fold"}
    halves = [[r[:300] for r in RIGHT], [r[300:] for r in RIGHT]]
    rows = [*pair(halves[0], fold=0, **folds), *pair(halves[1], fold=1, first=300, **folds)]
    assert compared(rows).interval.p == pytest.approx(stats.ttest_rel(*np.array(RIGHT, float)).pvalue)


def test_a_group_with_images_in_several_environments_is_one_unit() -> None:
    apart, grouped = (
        compared([r for h in "ab" for r in pair(held_out=h, groups=g)]) for g in (None, list(range(7, N + 7)))
    )
    assert grouped.interval.standard_error == pytest.approx(D.std(ddof=1) / np.sqrt(N))
    assert apart.interval.standard_error == pytest.approx(D.std(ddof=1) / np.sqrt(2 * N), rel=1e-3)
    assert (grouped.size.units, grouped.size.images_per_seed) == (N, 2 * N)
    assert grouped.changed == ()


def test_an_image_in_several_pairs_of_environments_is_one_unit() -> None:
    pairs = list(combinations("abcd", 2))  # six pairs; four held-outs would suffice for an interval
    right = [[*r, *r] for r in RIGHT]  # in each environment, with either other
    one = compared([
        r for first, second in pairs
        for r in pair(right, held_out=f"{first} + {second}", protocol="held_out_pairs",
                      environments=[(first, N), (second, N)])
    ])  # fmt: skip
    # Each image adds d / 4n to the mean over pairs, so the variance is that of 4n images, not of the 12n answers.
    assert one.interval.standard_error == pytest.approx(D.std(ddof=1) / np.sqrt(4 * N), rel=1e-3)
    assert one.size.images_per_seed == 4 * N
    assert one.shared
    assert one.others.interval is None


def test_only_the_same_images_are_compared() -> None:
    made = [*pair(held_out="a"), row(projection="icm", order="largest", held_out="b"), row(held_out="b", n_test=12)]
    assert compared(made).held_outs == ("a",)
    assert compare(only(made[2:])[1], ICM, "lodo", PLAIN) is None


def test_other_environments_have_an_interval_from_four_on() -> None:
    shares = {"a": 0.5, "b": 0.6, "c": 0.5, "d": 0.3}
    rows = [r for h, x in shares.items() for r in pair([np.arange(100) < 100 * x, np.arange(100) < 50], held_out=h)]
    others = compared(rows).others
    d = np.array([0.0, 0.1, 0.0, -0.2])
    low, high = stats.t.interval(0.95, 3, d.mean(), stats.sem(d))
    assert others.interval is not None
    assert (others.interval.low, others.interval.high) == pytest.approx((low, high))
    assert (others.ahead, others.tied, others.behind) == (1, 2, 1)
    assert compared(rows[:6]).others.interval is None


def test_p_values_of_a_family_are_adjusted() -> None:
    made = [compared(pair([[i < n for i in range(N)], RIGHT[1]])) for n in (560, 600, 700)]
    family = in_family(made)
    p = sorted(one.interval.p for one in made)
    assert sorted(one.adjusted.p for one in family) == pytest.approx(
        [min(1, 3 * p[0]), max(3 * p[0], 2 * p[1]), max(2 * p[1], p[2])]
    )
    assert {one.adjusted.family for one in family} == {3}


def test_equivalence_is_two_one_sided_tests() -> None:
    right = np.arange(N) < 500
    other = right.copy()
    other[[0, 999]] = ~other[[0, 999]]  # one won, one lost
    one = compared(pair([right, other]))
    d = right.astype(float) - other
    reference = stats.ttest_1samp(d, -0.003, alternative="greater"), stats.ttest_1samp(d, 0.003, alternative="less")
    assert to_records(one, 0.003)[0]["p_level"] == pytest.approx(max(r.pvalue for r in reference), abs=1e-6)


def test_class_balanced_accuracy_is_compared_by_classes() -> None:
    rng = np.random.default_rng(5)
    labels = [0] * 300 + [1] * 60
    right = [rng.random(360) < share for share in (0.7, 0.6)]
    rows = [r for h in "ab" for r in pair(right, held_out=h, labels=labels)]
    one = compare(only(rows)[1], ICM, "lodo", PLAIN, metric=BALANCED)
    assert one is not None
    d, c = right[0].astype(float) - right[1], np.array(labels)
    means = np.array([d[c == k].mean() for k in (0, 1)])
    u = (d - means[c]) / np.array([300, 60])[c] / 2 / 2
    assert one.interval.estimate == pytest.approx(means.mean())
    assert one.interval.standard_error == pytest.approx(np.sqrt(720 / 719 * 2 * (u**2).sum()))
    assert [alone.estimate for alone in one.single] == pytest.approx([means.mean()] * 2)
    assert one.accuracies == pytest.approx([np.mean([r[c == k].mean() for k in (0, 1)]) for r in right])


def test_data_sets_have_equal_weights() -> None:
    sets = {}
    for i, name in enumerate(("x", "y", "z")):
        right = [np.arange(200) < 100 + 10 * i, np.arange(200) < 90]
        sets[name] = compared([r for h in "ab" for r in pair(right, held_out=h, dataset=name)])
    whole = over_data_sets(list(sets.items()))
    assert whole is not None
    assert whole.interval.estimate == pytest.approx(np.mean([0.05, 0.10, 0.15]))
    errors = [one.interval.standard_error for one in sets.values()]
    assert whole.interval.standard_error == pytest.approx(np.sqrt(np.square(errors).sum()) / 3)
    assert (whole.others.ahead, whole.others.tied, whole.others.behind) == (6, 0, 0)
    assert whole.others.interval is not None
    assert whole.others.interval.degrees_of_freedom == 2
    assert over_data_sets(list(sets.items())[:1]) is None
    few = compared(pair([[True] * 9, [False] * 9]))
    assert over_data_sets([("x", sets["x"]), ("few", few)]) is None


def test_without_heterogeneity_data_sets_are_weighted_by_their_images() -> None:
    small = compared(pair([np.arange(100) < 56, np.arange(100) < 50], dataset="small"))
    large = compared(pair([np.arange(900) < 486, np.arange(900) < 450], dataset="large"))
    whole = over_data_sets([("small", small), ("large", large)])
    assert whole is not None
    assert whole.others.interval is not None
    weights = [1 / one.interval.standard_error**2 for one in (small, large)]
    assert whole.others.interval.estimate == pytest.approx(np.average([0.06, 0.04], weights=weights))


def test_harmonic_means_are_compared_with_base_and_new_images_together() -> None:
    rng = np.random.default_rng(3)
    base, new = rng.random((2, 500, 1)), rng.random((2, 500, 1))
    right = [np.concatenate([base[0, :, 0] < x, new[0, :, 0] < y]) for x, y in ((0.8, 0.5), (0.7, 0.4))]
    one = compared(pair(right, class_half="harmonic", protocol="open_class"))
    h = lambda c: 2 * c[:500].mean() * c[500:].mean() / (c[:500].mean() + c[500:].mean())  # noqa: E731
    assert one.interval.estimate == pytest.approx(h(right[0]) - h(right[1]))
    both = np.array(right)
    drawn = []
    for _ in range(2000):
        images = np.concatenate([rng.integers(500, size=500), 500 + rng.integers(500, size=500)])
        drawn.append(h(both[0, images]) - h(both[1, images]))
    assert one.interval.standard_error == pytest.approx(np.std(drawn), rel=0.06)


def test_methods_of_a_predictor_are_ranked_by_all_their_differences() -> None:
    rng = np.random.default_rng(0)
    rows = [
        row(projection=p, correct=rng.random(2000) < x) for p, x in (("identity", 0.5), ("pca", 0.8), ("random", 0.801))
    ]
    [block] = ranked(only(rows)[1], "lodo")
    assert [m.projection for m in block.tied] == ["pca", "random"]
    assert block.ranking is not None
    assert block.ranking.highest.tolist() == [3, 1, 1]
    assert block.ranking.lowest.tolist() == [3, 2, 2]
    assert ranked(only(rows[:1])[1], "lodo") == []


def test_methods_are_ranked_on_seeds_with_all_environments() -> None:
    right = np.arange(200) < 100
    better = {("a", 0): right, ("a", 1): right, ("b", 0): right, ("b", 1): right}
    rows = [row(held_out=h, seed=s, correct=c) for (h, s), c in better.items()]
    # On environment b it is far better, under seed 0 alone; on a no different.
    rows += [row(projection="pca", held_out=h, seed=s, correct=right if h == "a" else np.arange(200) < 190)
             for h, s in (("a", 0), ("a", 1), ("b", 0))]  # fmt: skip
    [block] = ranked(only(rows)[1], "lodo")
    assert [m.projection for m in block.tied] == ["pca"]
    apart = [r for r in rows if r["seed"] == (0 if r["projection"] == "pca" else 1)]
    apart += [{**r, "seed": 1} for r in apart if (r["projection"], r["held_out"]) == ("pca", "a")]
    [block] = ranked(only(apart)[1], "lodo")
    assert (block.ranking, block.tied) == (None, ())


def test_records_are_in_points() -> None:
    one = compared(pair())
    whole, alone = to_records(one, 0.01)
    assert [whole["held_out"], alone["held_out"], alone["gained"], alone["lost"]] == ["average", "art", 450, 400]
    error = 100 * D.std(ddof=1) / np.sqrt(N)
    found = [whole[name] for name in ("difference", "standard_error", "margin", "p")]
    assert found == pytest.approx([5, error, 1, one.interval.p], abs=1e-6)
    assert whole["smallest_gain"] == pytest.approx(2.8016 * error, rel=1e-4)
    assert Adjusted(0.05, 1).differs
    assert not Adjusted().differs
