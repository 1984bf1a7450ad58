"""The numbers that figures draw. All rows are synthetic."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from reports.chosen import Selections
from reports.spectra import spectra
from tests.reports.curves import rank_curves
from tests.reports.synthetic import TESTED, frame, row

ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all"}


def selections_of(rows: list[dict[str, Any]]) -> Selections:
    return Selections(frame(rows), TESTED)


def test_lambda_is_chosen_at_each_rank_and_a_tie_at_the_full_space_does_not_choose_it() -> None:
    # At full rank all lambdas give the same predictions: whichever row comes first used to be drawn everywhere.
    weak: dict[str, Any] = {"lambda_": 0.3, "target": [0.10, 0.16, 0.5], "lodo": [0.1, 0.3, 0.6]}
    strong: dict[str, Any] = {"lambda_": 1000.0, "target": [0.40, 0.46, 0.5], "lodo": [0.2, 0.2, 0.6]}
    for order in ((weak, strong), (strong, weak)):
        [curve] = rank_curves(selections_of([row(**ICM, **one) for one in order]), "lodo")
        assert curve.ranks.tolist() == [1, 2, 4]
        assert curve.mean == pytest.approx([40, 16, 50])  # what the sources say, not what is highest


def test_each_environment_seed_and_fold_chooses_for_itself_at_each_rank() -> None:
    rows = []
    for fold, n in enumerate((40, 160)):
        for lambda_, accuracy in ((1.0, 0.25), (10.0, 0.5)):
            scores = [0.9 if (lambda_ == 1.0) == (fold == 0) else 0.1]  # fold 0 takes lambda 1, fold 1 lambda 10
            common: dict[str, Any] = {
                "folds": 2,
                "fold": fold,
                "test_split": "out_fold",
                "first": 1000 * fold,
                "n_test": n,
            }
            rows.append(row(**ICM, lambda_=lambda_, target=[accuracy], lodo=scores, **common))
    [curve] = rank_curves(selections_of(rows), "lodo")
    assert curve.mean == pytest.approx([100 * (40 * 0.25 + 160 * 0.5) / 200])  # folds together, not their mean
    assert rank_curves(selections_of([r for r in rows if r["fold"] == 0]), "lodo") == []


def test_it_averages_over_environments_then_seeds() -> None:
    rows = [
        row(**ICM, held_out="a", lambda_=1.0, target=[0.1, 0.2, 0.3]),
        row(**ICM, held_out="a", lambda_=10.0, target=[0.9, 0.9, 0.9], lodo=[0.0, 0.0, 0.1]),
        row(**ICM, held_out="b", lambda_=1.0, target=[0.3, 0.4, 0.5]),
        row(**ICM, held_out="a", seed=1, lambda_=1.0, target=[0.3, 0.2, 0.3]),
        row(**ICM, held_out="b", seed=1, lambda_=1.0, target=[0.3, 0.4, 0.5]),
        row(**ICM, held_out="a", seed=2, lambda_=1.0, target=[0.0, 0.0, 0.0]),  # b is missing: no such seed
    ]
    [curve] = rank_curves(selections_of(rows), "lodo")
    assert curve.mean == pytest.approx([25, 30, 40])  # seeds: 20, 30, 40 and 30, 30, 40


def test_only_ranks_and_methods_with_every_seed_and_environment_are_drawn() -> None:
    rows = [row(held_out=name, seed=seed) for name in "ab" for seed in (0, 1)]
    rows += [row(**ICM, held_out=name, target=[0.1, 0.2, 0.3]) for name in "ab"]
    rows += [row(**ICM, held_out=name, seed=1, target=[0.4, 0.5]) for name in "ab"]  # without rank 1
    rows += [row(projection="pca", held_out="a", seed=seed) for seed in (0, 1)]  # nothing for b
    plain, icm = rank_curves(selections_of(rows), "lodo")
    assert (plain.method.projection, icm.method.projection) == ("identity", "icm")
    assert icm.ranks.tolist() == [2, 4]
    assert icm.mean == pytest.approx([30, 40])


def test_the_plain_line_stands_at_the_full_width_with_what_the_rule_picks_there() -> None:
    rows = [
        row(predictor="linear_probe", predictor_params='{"c": 1}', target=[0.2, 0.3], lodo=[0.9, 0.1]),
        row(predictor="linear_probe", predictor_params='{"c": 10}', target=[0.4, 0.6], lodo=[0.1, 0.2]),
    ]
    [curve] = rank_curves(selections_of(rows), "lodo")
    assert (curve.ranks.tolist(), curve.mean.tolist()) == ([4], [pytest.approx(60)])


@pytest.mark.parametrize("grouped", [False, True])
def test_the_band_is_the_cluster_standard_error_over_images(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    sizes, rows, parts = {"a": 80, "b": 120}, [], []
    for e, (name, n) in enumerate(sizes.items()):
        correct = rng.random(n) < 0.6
        group = np.arange(n) % 40 if grouped else np.arange(n) + 1000 * e
        rows.append(row(**ICM, held_out=name, correct=correct.tolist(), groups=group.tolist() if grouped else None))
        parts.append((np.full(n, e), correct.astype(float), group))
    environment, values, cluster = (np.concatenate(column) for column in zip(*parts, strict=True))
    dummies = np.eye(2)[environment]
    kind = {"groups": np.unique(cluster, return_inverse=True)[1], "use_correction": False}
    fit = sm.OLS(values, dummies).fit(cov_type="cluster", cov_kwds=kind)
    g = len(np.unique(cluster))
    [curve] = rank_curves(selections_of(rows), "lodo")
    assert curve.mean == pytest.approx(
        [100 * values[environment == 0].mean() / 2 + 50 * values[environment == 1].mean()]
    )
    expected = np.sqrt(np.array([0.5, 0.5]) @ fit.cov_params() @ np.array([0.5, 0.5]) * g / (g - 1))
    assert curve.stderr == pytest.approx([100 * expected])


def test_more_seeds_on_the_same_images_with_the_same_answers_make_no_narrower_band() -> None:
    rng = np.random.default_rng(1)
    correct = (rng.random(100) < 0.5).tolist()
    [one] = rank_curves(selections_of([row(**ICM, correct=correct)]), "lodo")
    [three] = rank_curves(selections_of([row(**ICM, correct=correct, seed=s) for s in range(3)]), "lodo")
    assert three.stderr == pytest.approx(one.stderr)
    assert np.isfinite(one.stderr).all()
    [few] = rank_curves(selections_of([row(**ICM, correct=correct[:29])]), "lodo")
    assert np.isnan(few.stderr).all()


def test_harmonic_means_have_a_curve_and_a_band() -> None:
    rng = np.random.default_rng(2)
    correct = rng.random((3, 200)) < np.array([[0.3], [0.5], [0.7]])
    rows = [row(**ICM, class_half="harmonic", correct=correct.tolist(), target=[0.3, 0.5, 0.7])]
    [curve] = rank_curves(selections_of(rows), "lodo")
    a, b = correct[:, :100].mean(axis=1), correct[:, 100:].mean(axis=1)
    assert curve.mean == pytest.approx(100 * 2 * a * b / (a + b))
    slopes = 2 * np.array([b, a]) ** 2 / (a + b) ** 2  # the delta method
    variance = (slopes**2 * np.array([a * (1 - a), b * (1 - b)]) / 100).sum(axis=0) * 200 / 199
    assert curve.stderr == pytest.approx(100 * np.sqrt(variance))


def test_spectra_are_averaged_per_lambda_and_largest_first() -> None:
    rows = [
        row(**ICM, lambda_=1.0, spectrum=[3.0, 1.0]),
        row(**ICM, lambda_=1.0, spectrum=[5.0, -1.0], seed=1),
        row(**ICM, lambda_=10.0, spectrum=[2.0, -8.0]),
        row(projection="pca", spectrum=[6.0, 2.0]),
    ]
    found = spectra(selections_of(rows), "lodo")
    assert [(line.lambda_, line.values.tolist()) for line in found.lines] == [
        (1.0, [4.0, 0.0]),
        (10.0, [2.0, -8.0]),
        (None, [6.0, 2.0]),
    ]


def test_spectra_are_averaged_over_folds() -> None:
    folds = [
        row(**ICM, lambda_=1.0, spectrum=values, folds=2, fold=fold, test_split="out_fold")
        for fold, values in enumerate(([3.0, 1.0], [1.0, 0.0]))
    ]
    [line] = spectra(selections_of(folds), "lodo").lines
    assert line.values.tolist() == [2.0, 0.5]


def test_released_order_shows_the_same_spectrum() -> None:
    rows = [row(projection="icm", order="released", lambda_=1.0, spectrum=[-1.0, 0.5, 3.0])]
    [line] = spectra(selections_of(rows), "lodo").lines
    assert line.values.tolist() == [3.0, 0.5, -1.0]
