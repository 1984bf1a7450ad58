"""Intervals over images against statsmodels, SciPy and loops over the formulas of the method."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from benchmark.method.evaluation import inference
from benchmark.method.evaluation.inference import ImageInterval, Interval, Scores, image_interval
from benchmark.method.evaluation.seed_variance import Design
from tests.method.evaluation.test_seed_variance import by_pairs


def world(seed: int, *, seeds: int = 3, environments: int = 3, groups: int = 0, share: float = 0.5) -> Scores:
    """Return differences of unequally many images in environments with unequal means; a share of them under each seed."""
    rng = np.random.default_rng(seed)
    environment = np.repeat(np.arange(environments), 150 + 130 * np.arange(environments))
    cluster = rng.integers(groups, size=len(environment)) if groups else np.arange(len(environment))
    lean = 0.15 * rng.standard_normal(cluster.max() + 1)
    parts = []
    for s in range(seeds):
        tested = np.flatnonzero(rng.random(len(environment)) < share)
        chance = 0.1 + 0.1 * environment[tested] + lean[cluster[tested]]
        values = (rng.random(len(tested)) < chance).astype(float) - (rng.random(len(tested)) < 0.1)
        parts.append((values, environment[tested], np.full(len(tested), 7 * s), cluster[tested]))
    return Scores(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def seed_by_loops(scores: Scores) -> float:
    """Return the variance between seeds beyond what images explain, pair by pair."""
    dense = (np.unique(of_all, return_inverse=True)[1] for of_all in (scores.environment, scores.seed, scores.cluster))
    return by_pairs(scores.values, Design(*dense))


def by_loops(scores: Scores) -> dict[str, float]:
    """Return the method's formulas as they stand, one value after the other."""
    seeds, environments = sorted(set(scores.seed)), sorted(set(scores.environment))
    clusters = sorted(set(scores.cluster))
    G, S, E = len(clusters), len(seeds), len(environments)
    mean, n = {}, {}
    for s in seeds:
        for e in environments:
            inside = scores.values[(scores.environment == e) & (scores.seed == s)].tolist()
            mean[s, e], n[s, e] = sum(inside) / len(inside), len(inside)
    u: defaultdict[Any, float] = defaultdict(float)
    for d, e, s, g in zip(scores.values, scores.environment, scores.seed, scores.cluster, strict=True):
        u[s, g] += (d - mean[s, e]) / (n[s, e] * E)
    means = [sum(mean[s, e] for e in environments) / E for s in seeds]
    image = G / (G - 1) * sum((sum(u[s, g] for s in seeds) / S) ** 2 for g in clusters)
    seed = seed_by_loops(scores) if S > 1 else 0.0
    freedom = (image + seed) ** 2 / (image**2 / (G - 1) + seed**2 / S)
    return {"estimate": sum(means) / S, "image": image, "seed": seed, "freedom": freedom, "clusters": G}


def test_fits_that_agree_where_two_seeds_test_the_same_are_not_suspected() -> None:
    """Answers that do not depend on the fit: what seeds differ by is their images, however far their means lie apart."""
    rng = np.random.default_rng(4)
    values = (rng.random(2000) < 0.3).astype(float)
    easy, hard = np.flatnonzero(values), np.flatnonzero(1 - values)
    tested = [np.concatenate([easy[:300], hard[:300]]), np.concatenate([easy[200:500], hard[200:300], hard[300:]])]
    seed, image = np.repeat([0, 1], [len(some) for some in tested]), np.concatenate(tested)
    scores = Scores(values[image], np.zeros_like(seed), seed, image)
    assert abs(np.diff(scores.means[:, 0])) > 0.15
    without = image_interval(replace(scores, cluster=np.arange(len(image))))
    assert seed_by_loops(scores) < 0.05 * seed_by_loops(replace(scores, cluster=np.arange(len(image))))
    assert image_interval(scores).standard_error < 0.5 * without.standard_error
    expected = by_loops(scores)
    assert expected["seed"] > 0  # that no answer changed is not that none ever does
    assert image_interval(scores).standard_error ** 2 == pytest.approx(expected["image"] + expected["seed"], rel=1e-9)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("groups", [0, 60])
def test_an_interval_is_what_the_method_says(seeds: int, groups: int) -> None:
    shifts = {0.0: 0, 0.1: 0}  # how many worlds have a variance between seeds, by how much seeds were shifted
    for shift in shifts:
        for w in range(4):
            scores = world(10 * seeds + w, seeds=seeds, groups=groups)
            scores = replace(scores, values=scores.values + shift * (scores.seed % 3))
            expected, got = by_loops(scores), image_interval(scores, 0.9)
            v = expected["image"] + expected["seed"]
            assert got.estimate == pytest.approx(expected["estimate"], rel=1e-12)
            assert got.standard_error == pytest.approx(np.sqrt(v), rel=1e-9)
            assert got.degrees_of_freedom == pytest.approx(expected["freedom"], rel=1e-9)
            t = stats.t(expected["freedom"], expected["estimate"], np.sqrt(v))
            np.testing.assert_allclose([got.low, got.high], t.interval(0.9), rtol=1e-9)
            assert got.low < got.estimate < got.high
            assert (got.clusters, got.seeds, got.plus_minus) == (expected["clusters"], seeds, got.standard_error)
            shifts[shift] += expected["seed"] > 0
    assert seeds == 1 or shifts[0.1] == 4  # both branches of max(0, ...) were seen
    assert shifts[0.0] < 4


@pytest.mark.parametrize(("seeds", "groups"), [(1, 0), (1, 60), (3, 60)])
def test_the_variance_over_images_is_that_of_statsmodels(seeds: int, groups: int) -> None:
    scores = world(seeds, seeds=seeds, groups=groups)
    cells, G = 3 * seeds, len(set(scores.cluster))
    dummies = ((scores.environment + 3 * (scores.seed // 7))[:, None] == np.arange(cells)).astype(float)
    robust = {"groups": scores.cluster, "use_correction": False}
    fit = OLS(scores.values, dummies).fit(cov_type="cluster", cov_kwds=robust)
    contrast, got, expected = np.full(cells, 1 / cells), image_interval(scores), by_loops(scores)
    image = contrast @ fit.cov_params() @ contrast * G / (G - 1)
    assert got.estimate == pytest.approx(contrast @ fit.params, abs=1e-12)
    assert (expected["image"], got.standard_error**2 - expected["seed"]) == pytest.approx((image, image), rel=1e-6)
    assert seeds > 1 or got.degrees_of_freedom == pytest.approx(G - 1)


def test_one_image_a_cluster_one_environment_and_one_seed_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((2, 400)) < [[0.6], [0.53]]).astype(float)
    one = np.zeros(400, dtype=np.int64)
    scores = Scores(ours - theirs, one, one, np.arange(400))
    expected, got = stats.ttest_rel(ours, theirs), image_interval(scores)
    assert got.estimate / got.standard_error == pytest.approx(expected.statistic)
    assert got.degrees_of_freedom == expected.df == 399
    assert got.p == pytest.approx(expected.pvalue)
    np.testing.assert_allclose([got.low, got.high], expected.confidence_interval(0.95))
    equal = ttost_paired(ours, theirs, -0.15, 0.15)
    assert inference.equivalence(got, 0.15) == pytest.approx(equal[0])
    assert inference.equivalence(replace(got, estimate=-got.estimate), 0.15) == pytest.approx(equal[0])
    assert inference.equivalence(got) == pytest.approx(ttost_paired(ours, theirs, -0.01, 0.01)[0])
    assert inference.equivalence(got) > 0.5  # more than a point apart


def test_each_environment_alone_keeps_its_seeds_and_clusters() -> None:
    scores = world(9, groups=60)
    scores = replace(scores, values=scores.values + 0.1 * (scores.seed % 3))
    by_environment = inference.by_environment(scores, 0.9)
    for e, got in enumerate(by_environment):
        inside = scores.environment == e
        values, *where = (getattr(scores, name)[inside] for name in ("values", "environment", "seed", "cluster"))
        expected = by_loops(Scores(values, *where))
        assert got.estimate == pytest.approx(expected["estimate"])
        assert got.standard_error**2 == pytest.approx(expected["image"] + expected["seed"])
        assert got.confidence == 0.9
    np.testing.assert_allclose(scores.environment_means, [one.estimate for one in by_environment])


def test_the_order_of_values_and_the_numbers_of_things_mean_nothing() -> None:
    scores = world(6, groups=60)
    order = np.random.default_rng(0).permutation(len(scores.seed))
    moved = Scores(
        scores.values[order], 5 - scores.environment[order], 100 + scores.seed[order], 10**9 - scores.cluster[order]
    )
    assert image_interval(moved).standard_error == pytest.approx(image_interval(scores).standard_error)


def test_methods_share_their_images() -> None:
    a, b = world(7), world(7)
    rng = np.random.default_rng(1)
    values = np.array([a.values, np.where(rng.random(len(b.values)) < 0.2, 0, b.values), a.values])
    scores = replace(a, values=values)
    assert inference.image_intervals(scores) == [image_interval(replace(a, values=row)) for row in values]
    alone = image_interval(replace(a, values=values[0] - values[1]))
    got = inference.difference_interval(scores, 0, 1)
    assert got.estimate == pytest.approx(alone.estimate)
    assert got.standard_error == pytest.approx(alone.standard_error)
    assert inference.difference_interval(scores, 1, 0).estimate == -got.estimate
    same = inference.difference_interval(scores, 0, 2)
    assert (same.estimate, same.low, same.high, same.p, same.standard_error) == (0, 0, 0, 1, 0)
    assert inference.equivalence(same) == pytest.approx(0.99**same.min_clusters)
    np.testing.assert_allclose(scores.environment_means[1], replace(a, values=values[1]).environment_means)


@pytest.mark.parametrize("n", [40, 298, 299])
def test_the_same_answers_are_level_only_where_so_many_units_leave_no_room_for_more(n: int) -> None:
    one = np.zeros(2 * n, dtype=np.int64)
    environment = np.repeat([0, 1], n)
    answers = (np.random.default_rng(n).random(2 * n) < 0.6).astype(float)
    got = inference.difference_interval(Scores(np.array([answers] * 2), environment, one, np.arange(2 * n)), 0, 1)
    assert (got.same, got.estimate, got.low, got.high) == (True, 0, 0, 0)
    # One-sided 95 %, of one environment: the other may be level.
    bound = proportion_confint(0, n, 0.1, method="beta")[1]
    assert (inference.equivalence(got) <= 0.05) == (bound <= 0.01) == (n == 299)
    assert inference.equivalence(got) == pytest.approx(stats.binomtest(0, n, 0.01, alternative="less").pvalue)
    assert got.may_differ == pytest.approx(proportion_confint(0, n, 0.05, method="beta")[1])
    assert inference.equivalence(got, 1.0) == 0


def test_environments_that_differ_from_each_other_alone_say_nothing_of_images() -> None:
    one, environment, cluster = np.zeros(80, dtype=np.int64), np.repeat([0, 1], 40), np.arange(80)
    for values in (np.repeat([1.0, 0.0], 40), np.repeat([1.0, -1.0], 40)):
        for clusters in (cluster, cluster % 40):
            got = image_interval(Scores(values, environment, one, clusters))
            assert got.estimate == pytest.approx(values.mean())
            assert np.isnan([got.low, got.high, got.p, inference.equivalence(got)]).all()
            assert not got.same
    # Of groups, what one environment gains the other loses.
    values = np.concatenate([np.tile([1.0, 0.0], 20), np.tile([0.0, 1.0], 20)])
    assert np.isnan(image_interval(Scores(values, environment, one, cluster % 40)).p)
    alone = [image_interval(Scores(np.full(40, x), one[:40], one[:40], cluster[:40])) for x in (1.0, 0.0)]
    assert np.isnan([inference.pooled_interval(alone).p, inference.pooled_interval(alone).low]).all()
    assert inference.pooled_interval([alone[1]] * 2).same


def test_without_variation_nothing_is_claimed_to_be_known_to_0_points() -> None:
    one = np.zeros(40, dtype=np.int64)
    right = image_interval(Scores(np.ones(40), one, one, np.arange(40)))
    assert (right.estimate, right.plus_minus) == (1, None)
    assert np.isnan([right.low, right.high]).all()
    assert right.p == pytest.approx(stats.binomtest(40, 40).pvalue, rel=1e-9, abs=0)  # all images are for it
    assert inference.equivalence(right) == 1
    assert np.isnan(Interval(0.3, 0.0, 4).p)
    # Seeds that differ where no image does: all that is known is of seeds.
    seed, image = np.repeat([0, 1], 40), np.tile(np.arange(40), 2)
    got = image_interval(Scores(0.2 + 0.2 * seed, np.zeros_like(seed), seed, image))
    assert got.standard_error == pytest.approx(0.1 / np.sqrt(2))  # half of their variance: see `seed_variance`
    assert got.degrees_of_freedom == pytest.approx(2)


@pytest.mark.parametrize(("units", "groups"), [(29, 0), (30, 0), (29, 10), (30, 10)])
def test_fewer_than_30_units_in_an_environment_give_no_interval(units: int, groups: int) -> None:
    per = 5 if groups else 1
    cluster = np.concatenate([np.arange(100), np.repeat(np.arange(units), per)])
    environment = np.repeat([0, 1], [100, units * per])
    values = (np.random.default_rng(0).random(len(cluster)) < 0.5).astype(float)
    got = image_interval(Scores(values, environment, np.zeros_like(cluster), cluster))
    assert (got.min_clusters, got.clusters) == (units, 100)
    assert np.isnan([got.low, got.high, got.p, got.standard_error]).all() == (units < 30)
    assert (got.plus_minus is None) == (units < 30)
    assert got.estimate == pytest.approx((values[:100].mean() + values[100:].mean()) / 2)


def test_the_fewest_units_are_those_of_a_seed() -> None:
    scores = world(8, share=0.2)
    cells = [(scores.seed == s) & (scores.environment == e) for s in (0, 7, 14) for e in range(3)]
    assert image_interval(scores).min_clusters == min(len(set(scores.cluster[inside])) for inside in cells) < 40


def test_what_does_not_fit_together_is_refused() -> None:
    one = np.zeros(3, dtype=np.int64)
    with pytest.raises(ValueError, match="have 3 values for each method; their field 'seed' has shape \\(2,\\)"):
        Scores(np.zeros(3), one, one[:2], one)
    with pytest.raises(ValueError, match="no image was tested"):
        Scores(np.zeros((2, 0)), one[:0], one[:0], one[:0])
    with pytest.raises(ValueError, match="Seed 5 has no value in environment 2"):
        Scores(np.zeros(3), np.array([1, 2, 1]), np.array([4, 4, 5]), np.arange(3))


def test_the_mean_over_data_sets_is_welch_s() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.05, 0.3, 50), rng.normal(0.02, 0.6, 200)

    def interval(values: Any) -> ImageInterval:
        one = np.zeros(len(values), dtype=np.int64)
        return image_interval(Scores(values, one, one, np.arange(len(values))))

    got, expected = inference.pooled_interval([interval(a), interval(b)]), stats.ttest_ind(a, -b, equal_var=False)
    assert got.estimate == pytest.approx((a.mean() + b.mean()) / 2)
    assert got.estimate / got.standard_error == pytest.approx(expected.statistic)
    assert got.degrees_of_freedom == pytest.approx(expected.df)
    assert (got.clusters, got.min_clusters, got.seeds) == (250, 50, 1)
    nothing = interval(np.zeros(50))
    assert inference.pooled_interval([nothing, nothing]) == replace(nothing, clusters=100, degrees_of_freedom=98)
    half = inference.pooled_interval([nothing, interval(a)])
    assert half.standard_error == interval(a).standard_error / 2
    assert half.degrees_of_freedom == pytest.approx(49)
    assert np.isnan(inference.pooled_interval([interval(a), interval(b[:20])]).low)


def halves(seed: int, groups: int) -> tuple[Scores, Any]:
    """Return answers of two methods on base and new images of two environments under two seeds."""
    rng = np.random.default_rng(seed)
    n = 1200
    environment, new = np.repeat([0, 1], [500, 700]), rng.random(n) < 0.3
    cluster = rng.integers(groups, size=n) if groups else np.arange(n)
    chance = np.where(new, 0.35, 0.7) + 0.1 * environment + 0.1 * rng.standard_normal(cluster.max() + 1)[cluster]
    seeds = np.repeat([0, 1], n)
    answers = rng.random((2, 2 * n)) < np.stack([np.tile(chance + 0.05, 2), np.tile(chance, 2)])
    return Scores(answers.astype(float), np.tile(environment, 2), seeds, np.tile(cluster, 2)), np.tile(new, 2)


def harmonic(values: Any, scores: Scores, new: Any, inside: Any) -> float:
    """Return the harmonic mean, averaged over environments, then seeds, of the images inside."""
    out = []
    for s in (0, 1):
        for e in (0, 1):
            here = inside & (scores.seed == s) & (scores.environment == e)
            a, b = values[here & ~new].mean(), values[here & new].mean()
            out.append(2 / (1 / a + 1 / b))
    return float(np.mean(out))


@pytest.mark.parametrize("groups", [0, 150])
def test_harmonic_means_have_the_variance_that_a_jackknife_gives_them(groups: int) -> None:
    scores, new = halves(4, groups)
    contributions = inference.harmonic_contributions(scores, new)
    everything = np.ones(len(new), dtype=bool)
    for m in (0, 1):
        assert contributions.means[m].mean() == pytest.approx(harmonic(scores.values[m], scores, new, everything))
    clusters = np.unique(scores.cluster)

    def difference(inside: Any) -> float:
        return harmonic(scores.values[0], scores, new, inside) - harmonic(scores.values[1], scores, new, inside)

    dropped = np.array([difference(scores.cluster != g) for g in clusters])
    jackknife = (len(clusters) - 1) / len(clusters) * ((dropped - dropped.mean()) ** 2).sum()
    u = contributions.added[0] - contributions.added[1]
    correction = len(clusters) / (len(clusters) - 1)
    assert correction * (u**2).sum() == pytest.approx(jackknife, rel=0.02)
    assert inference.difference_interval(contributions, 0, 1).estimate == pytest.approx(difference(everything))


@pytest.mark.parametrize("n", [597, 598])
def test_the_same_harmonic_means_take_twice_as_many_images_to_be_level(n: int) -> None:
    new, one = np.repeat([False, True], n), np.zeros(2 * n, dtype=np.int64)
    answers = np.where(new, np.arange(2 * n) % n == 0, True).astype(float)  # 1 of n new ones: its share counts twice
    scores = inference.harmonic_contributions(Scores(np.array([answers] * 2), one, one, np.arange(2 * n)), new)
    got = inference.difference_interval(scores, 0, 1)
    assert got.same
    a, b, moved = 1.0, 1 / n, 1e-6
    assert (2 * a * (b + moved) / (a + b + moved) - 2 * a * b / (a + b)) / moved == pytest.approx(got.slope, rel=0.01)
    assert (inference.equivalence(got) <= 0.05) == (n == 598)
    assert inference.pooled_interval([got, got]).slope == 2


@pytest.mark.parametrize(("few", "known"), [(5, False), (29, False), (30, True)])
@pytest.mark.parametrize("half", [0, 1])
def test_few_images_of_new_or_of_base_classes_give_harmonic_means_no_interval(few: int, known: bool, half: int) -> None:
    rng = np.random.default_rng(few)
    n = 400 + 200 + few
    environment = np.repeat([0, 1], [400, 200 + few])
    new = np.concatenate([np.arange(400) < 200, np.arange(200 + few) < (few if half else 200)])
    answers = (rng.random((2, n)) < 0.6).astype(float)
    answers[:, -few:] = answers[:, :few] = [[i % 3 > 0 for i in range(few)]] * 2
    scores = Scores(answers, environment, np.zeros(n, dtype=np.int64), np.arange(n))
    contributions = inference.harmonic_contributions(scores, new)
    got = inference.difference_interval(contributions, 0, 1)
    assert got.min_clusters == few
    assert np.isnan([got.low, got.high, got.p]).all() == (not known)
    alone = inference.by_environment(replace(contributions, values=contributions.values[0]))
    assert [one.min_clusters for one in alone] == [200, few]


def test_a_harmonic_mean_of_two_zeros_has_no_interval_and_one_half_alone_is_refused() -> None:
    scores, new = halves(4, 0)
    none = scores.values.copy()
    none[0, scores.environment == 1] = 0
    only, other = inference.image_intervals(inference.harmonic_contributions(replace(scores, values=none), new))
    assert np.isnan([only.low, only.high, only.p]).all()
    assert not np.isnan(other.low)
    one_zero = np.where(new, 0.0, scores.values)  # base images alone are right: H is 0, and its slope along them
    np.testing.assert_allclose(inference.harmonic_contributions(replace(scores, values=one_zero), new).values, 0)
    with pytest.raises(ValueError, match="no image of a new class"):
        inference.harmonic_contributions(scores, new & (scores.environment == 0))
    with pytest.raises(ValueError, match="no image of a base class"):
        inference.harmonic_contributions(scores, new | (scores.environment == 0))


def test_the_smallest_gain_is_seen_in_four_of_five_cases() -> None:
    assert inference.smallest_gain(1.0) == pytest.approx(2.8, abs=0.01)
    gain = inference.smallest_gain(0.4)
    assert stats.norm.sf(stats.norm.ppf(0.975), loc=gain / 0.4) == pytest.approx(0.8)


def test_mcnemar_is_that_of_statsmodels() -> None:
    for gained, lost in ((3, 9), (9, 3), (40, 21), (0, 6), (5, 5)):
        expected = statsmodels_mcnemar([[50, gained], [lost, 20]], exact=True).pvalue
        assert inference.mcnemar(gained, lost) == pytest.approx(expected)
    assert inference.mcnemar(0, 0) == 1


def test_the_standard_error_over_seeds_has_ddof_1() -> None:
    values = [0.61, 0.64, 0.66]
    assert inference.seeds_standard_error(values) == pytest.approx(stats.sem(values))
    assert np.isnan(inference.seeds_standard_error([0.61]))


def classes_of(scores: Scores, classes: int, single: bool) -> Any:
    """Return unequal classes of the images of a world; of one class each environment has one image, if asked for."""
    rng = np.random.default_rng(5)
    of_image = rng.choice(classes, scores.cluster.max() + 1, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    label = of_image[scores.cluster]
    cells = [(scores.seed == s) & (scores.environment == e) for s in set(scores.seed) for e in set(scores.environment)]
    for inside in cells if single else ():
        label[np.flatnonzero(inside)[3]] = classes
    return label


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("seeds", "groups"), [(1, 0), (1, 60), (3, 60), (3, 0)])
def test_class_balanced_accuracy_has_the_interval_that_the_method_says(seeds: int, groups: int, single: bool) -> None:
    scores = world(11, seeds=seeds, groups=groups)
    scores = replace(scores, values=scores.values + 0.1 * (scores.seed % 3))
    label = classes_of(scores, 7, single)
    names, cells = sorted(set(scores.environment)), sorted(set(scores.seed))
    E, S, clusters = len(names), len(cells), sorted(set(scores.cluster))
    u: defaultdict[Any, float] = defaultdict(float)
    of_cells, moved, singles = [], 0.0, 0
    for s in cells:
        for e in names:
            inside = np.flatnonzero((scores.seed == s) & (scores.environment == e))
            d, c = scores.values[inside], label[inside]
            of_cells.append(np.mean([d[c == k].mean() for k in set(c)]))
            centre = [d[c == k].mean() if (c == k).sum() > 1 else d.mean() for k in c]
            added = np.array([(d[i] - centre[i]) / ((c == c[i]).sum() * len(set(c)) * E) for i in range(len(c))])
            moved, singles = max(moved, abs(added.sum())), singles + sum((c == k).sum() == 1 for k in set(c))
            for g, one in zip(scores.cluster[inside], added - added.mean(), strict=True):
                u[s, g] += one
    balanced = inference.balanced_contributions(scores, label)
    got = image_interval(balanced)
    assert got.estimate == pytest.approx(np.mean(of_cells), rel=1e-12)
    np.testing.assert_allclose(balanced.means.reshape(-1), of_cells)
    G = len(clusters)
    image = G / (G - 1) * sum((sum(u[s, g] for s in cells) / S) ** 2 for g in clusters)
    seed = seed_by_loops(balanced) if S > 1 else 0.0
    assert got.standard_error**2 == pytest.approx(image + seed, rel=1e-9)
    freedom = (image + seed) ** 2 / (image**2 / (G - 1) + seed**2 / S)
    assert got.degrees_of_freedom == pytest.approx(freedom, rel=1e-9)
    assert (moved > 1e-9) == (singles > 0)  # deviations of single images alone have a sum, which is taken away
    assert singles > 0 or not single


def test_classes_alike_give_class_balanced_accuracy_the_interval_of_accuracy() -> None:
    rng = np.random.default_rng(0)
    where, label = np.zeros(600, dtype=np.int64), np.repeat(np.arange(6), 100)
    scores = Scores((rng.random((2, 600)) < 0.6).astype(float), where, where, np.arange(600))
    balanced = inference.balanced_contributions(scores, label)
    got = inference.difference_interval(balanced, 0, 1)
    assert got.estimate == pytest.approx(inference.difference_interval(scores, 0, 1).estimate)
    alone = inference.balanced_contributions(replace(scores, values=scores.values[0] - scores.values[1]), label)
    assert got.standard_error == pytest.approx(image_interval(alone).standard_error)
    one_way = [scores.values[0][label == c].var(ddof=0) / 100 for c in range(6)]  # classes are strata
    expected = np.sqrt(600 / 599 * sum(one_way)) / 6
    assert inference.image_intervals(balanced)[0].standard_error == pytest.approx(expected)
    each_its_own = inference.balanced_contributions(scores, np.arange(600))
    np.testing.assert_allclose(each_its_own.values, scores.values, atol=1e-12)
    right = image_interval(inference.balanced_contributions(replace(scores, values=np.ones(600)), label))
    assert (right.estimate, right.standard_error) == (1, 0)


def test_class_balanced_accuracy_moves_with_its_smallest_class() -> None:
    label = np.repeat([0, 1], [90, 10])
    where, values = np.zeros(100, dtype=np.int64), np.ones(100)
    scores = inference.balanced_contributions(Scores(np.stack([values, values]), where, where, np.arange(100)), label)
    values[-1] = 0  # a hundredth of the images
    moved = 1 - balanced_accuracy_score(label, np.where(values > 0, label, 0))
    got = inference.difference_interval(scores, 0, 1)
    assert got.same
    assert got.slope == pytest.approx(100 * moved) == 5
    assert inference.equivalence(got, 0.05) == pytest.approx(0.99**100)


@pytest.mark.parametrize("groups", [0, 150])
def test_a_cluster_adds_to_harmonic_means_of_class_balanced_accuracies_what_they_gain_by_its_weight(
    groups: int,
) -> None:
    scores, new = halves(4, groups)
    label = np.tile(np.random.default_rng(1).choice(4, len(new) // 2, p=[0.4, 0.3, 0.2, 0.1]), 2) + 4 * new
    contributions = inference.harmonic_contributions(inference.balanced_contributions(scores, label, new), new)
    cells = [(scores.seed == s) & (scores.environment == e) for s in (0, 1) for e in (0, 1)]
    inside = [[[here & (label == c) for c in range(first, first + 4)] for first in (0, 4)] for here in cells]

    def harmonic_balanced(values: Any, weights: Any) -> float:
        means = [
            [np.mean([np.average(values[k], weights=weights[k]) for k in half]) for half in cell] for cell in inside
        ]
        return float(np.mean([2 / (1 / a + 1 / b) for a, b in means]))

    names = np.unique(scores.cluster)
    for m in (0, 1):
        whole = harmonic_balanced(scores.values[m], np.ones(len(new)))
        assert contributions.means[m].mean() == pytest.approx(whole)
        for g in range(0, len(names), 37):
            heavier = harmonic_balanced(scores.values[m], 1 + 1e-6 * (scores.cluster == names[g]))
            assert contributions.added[m, g] == pytest.approx(1e6 * (heavier - whole), rel=1e-3, abs=1e-8)
    assert inference.difference_interval(contributions, 0, 1).slope > 2


def means_of(scores: Scores, label: Any = None) -> Any:
    """Return the callback of a jackknife: the mean of kept values under each seed, optionally class-balanced."""

    def difference(kept: Any) -> Any:
        some = Scores(*(getattr(scores, name)[kept] for name in ("values", "environment", "seed", "cluster")))
        some = some if label is None else inference.balanced_contributions(some, label[kept])
        return some.means.mean(axis=1)

    return difference


@pytest.mark.parametrize(
    ("seeds", "groups", "balanced"),
    [(1, 0, False), (1, 300, False), (3, 0, False), (3, 120, False), (1, 0, True), (3, 0, True)],
)
def test_of_means_the_jackknife_has_the_interval_over_images(seeds: int, groups: int, balanced: bool) -> None:
    ratios = []
    for w in range(4):
        scores = world(20 * seeds + w, seeds=seeds, groups=groups, share=1.0)
        label = classes_of(scores, 5, False) if balanced else None
        got = inference.jackknife_interval(means_of(scores, label), scores)
        expected = image_interval(scores if label is None else inference.balanced_contributions(scores, label))
        assert got.estimate == pytest.approx(expected.estimate)
        assert (got.clusters, got.min_clusters, got.seeds) == (expected.clusters, expected.min_clusters, expected.seeds)
        assert got.low < got.estimate < got.high
        ratios.append(got.standard_error / expected.standard_error)
    assert np.abs(np.array(ratios) - 1).max() < 0.1


def test_with_few_clusters_the_jackknife_deletes_one_after_the_other() -> None:
    scores = world(3, seeds=3, groups=50)
    scores = replace(scores, values=scores.values + 0.3 * (scores.seed % 3))
    difference, clusters = means_of(scores), sorted(set(scores.cluster))
    moved = np.array([difference(scores.cluster != g) for g in clusters]) - difference(scores.cluster >= 0)
    c = 49 / 50 * moved.T @ moved
    apart = [c[s, t] for s in range(3) for t in range(3) if s != t]
    seed = 2 / 3 * (difference(scores.cluster >= 0).var(ddof=1) - np.diag(c).mean() + np.mean(apart)) / 3
    assert seed > 0
    got = inference.jackknife_interval(difference, scores)
    assert got.standard_error**2 == pytest.approx(c.mean() + seed)
    assert got.degrees_of_freedom == pytest.approx((c.mean() + seed) ** 2 / (c.mean() ** 2 / 49 + seed**2 / 3))


def test_macro_f1_has_the_error_that_a_bootstrap_over_groups_gives_it() -> None:
    rng = np.random.default_rng(2)
    n, groups = 1500, 400
    label, cluster = rng.choice(5, n, p=[0.4, 0.25, 0.2, 0.1, 0.05]), rng.integers(groups, size=n)
    easy = rng.random(groups)[cluster]
    ours, theirs = (
        np.where(easy + 0.3 * rng.standard_normal(n) < at, label, rng.integers(5, size=n)) for at in (0.6, 0.5)
    )
    where = np.zeros(n, dtype=np.int64)

    def difference(kept: Any) -> float:
        macro = [f1_score(label[kept], predicted[kept], average="macro") for predicted in (ours, theirs)]
        return float(macro[0] - macro[1])

    got = inference.jackknife_interval(difference, Scores(np.zeros(n), where, where, cluster))
    of_group = [np.flatnonzero(cluster == g) for g in range(groups)]
    drawn = [difference(np.concatenate([of_group[g] for g in rng.integers(groups, size=groups)])) for _ in range(300)]
    assert got.estimate == difference(where == 0)
    assert got.standard_error == pytest.approx(np.std(drawn), rel=0.12)
    assert got.low > 0


def test_what_a_jackknife_cannot_say() -> None:
    where = np.zeros(40, dtype=np.int64)
    scores = Scores(np.zeros(40), where, where, np.arange(40))
    same = inference.jackknife_interval(lambda _: 0.0, scores)
    assert (same.same, same.low, same.high, same.p) == (True, 0, 0, 1)
    for got in (
        inference.jackknife_interval(lambda _: 0.2, scores),
        inference.jackknife_interval(lambda _: np.nan, scores),
        inference.jackknife_interval(
            lambda kept: float(kept.mean()), Scores(np.zeros(29), where[:29], where[:29], np.arange(29))
        ),
    ):
        assert np.isnan([got.low, got.high, got.p]).all()
