"""Numbers of figures against NumPy and other references. All rows are synthetic."""

from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.selection import unpacked
from reports.analysis.backbones import same_but_backbone
from reports.analysis.comparisons import Adjusted
from reports.analysis.findings import comparisons
from reports.analysis.selections import Selections
from reports.analysis.settings import Options
from reports.figures import environments, forest, interventions, lambda_rank, rank, robustness, selection, style
from tests.reports.analysis.test_robustness import BACKBONES, settings
from tests.reports.figures.rows import HELD_OUTS, KINDS, LAMBDAS, RANKS, rows_of
from tests.reports.synthetic import frame, only, results_of, row

ROWS = rows_of()
SETTING, SELECTIONS = only(ROWS)
FRAME = frame(ROWS)


def panel_of(figure: Any, selections: Selections = SELECTIONS) -> Any:
    """Return the numbers of the only panel of a figure under the rule lodo."""
    [panel] = figure.panels(selections, "lodo").values()
    return panel


def of_icm(**where: Any) -> pd.DataFrame:
    rows = FRAME[FRAME["projection"] == "icm"]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def best_at(held_out: str, fold: int, rank_: int, **where: Any) -> "pd.Series[Any]":
    """Return the row with the highest score at a rank, the first of equals."""
    rows = of_icm(held_out=held_out, fold=fold, **where)
    return rows.iloc[int(np.argmax([scores[RANKS.index(rank_)] for scores in rows["lodo"]]))]


def paired(found: dict[str, np.ndarray[Any, Any]]) -> tuple[float, float]:
    """Return mean difference over environments in points and its standard error with images as units."""
    means = [differences.mean() for differences in found.values()]
    variance = sum(
        ((differences - differences.mean()) ** 2).sum() / len(differences) ** 2 for differences in found.values()
    )
    n = sum(map(len, found.values()))
    return 100 * float(np.mean(means)), 100 * float(np.sqrt(n / (n - 1) * variance)) / len(found)


def answers_in(rows: pd.DataFrame, at: int) -> np.ndarray[Any, Any]:
    """Return the concatenated correctness of rows at a position among their ranks."""
    named = [{str(name): value for name, value in r.items()} for r in rows.to_dict("records")]
    return np.concatenate([unpacked(r)[at] for r in named]).astype(float)


def plain(held_out: str) -> np.ndarray[Any, Any]:
    rows = FRAME[(FRAME["projection"] == "identity") & (FRAME["held_out"] == held_out)].sort_values("fold")
    return answers_in(rows, 0)


def check(point: Interval, found: dict[str, np.ndarray[Any, Any]]) -> None:
    value, error = paired(found)
    n = sum(map(len, found.values()))
    half = stats.t.ppf(0.975, n - 1) * error
    assert tuple(100 * x for x in (point.estimate, point.low, point.high)) == pytest.approx(
        (value, value - half, value + half)
    )


def test_rank_curves_are_paired_differences_at_the_picks_of_each_rank() -> None:
    [(predictor, curves)] = rank.panels(SELECTIONS, "lodo").items()
    assert predictor == "zero-shot"
    icm = next(curve for curve in curves if curve.method.projection == "icm")
    assert icm.ranks == RANKS
    for rank_, point in zip(RANKS, icm.points, strict=True):
        found = {}
        for name in HELD_OUTS:
            chosen = [best_at(name, fold, rank_) for fold in (0, 1)]
            own = answers_in(pd.DataFrame(chosen), RANKS.index(rank_))
            found[name] = own - plain(name)
        check(point, found)
    assert icm.picks == (0, 6, 0)  # 0.57 at rank 2 is the highest score everywhere
    shrinkage = next(curve for curve in curves if curve.method.projection == "shrinkage")
    assert len(shrinkage.ranks) == 1


def test_heat_maps_are_means_at_the_picks_of_each_lambda_and_rank() -> None:
    found = panel_of(lambda_rank)
    assert (found.lambdas, found.ranks) == (LAMBDAS, RANKS)
    for i, lambda_ in enumerate(LAMBDAS):
        for j, rank_ in enumerate(RANKS):
            chosen = [best_at(name, fold, rank_, lambda_=lambda_) for name in HELD_OUTS for fold in (0, 1)]
            assert found.source[i, j] == pytest.approx(100 * np.mean([r["lodo"][j] for r in chosen]))
            assert found.held_out[i, j] == pytest.approx(100 * np.mean([r["target"][j] for r in chosen]))
    assert found.picks.tolist() == [[0, 0, 0], [0, 6, 0]]


def test_heat_maps_weigh_folds_by_their_images() -> None:
    rows = [
        row(projection="icm", order="largest", lambda_=x, target=[accuracy, accuracy], lodo=[0.2, 0.1 * x], n_test=n,
            folds=2, fold=fold, first=1000 * fold, test_split="out_fold", intervention_set="all")
        for fold, (n, accuracy) in enumerate(((100, 0.5), (300, 0.9))) for x in (1.0, 2.0)
    ]  # fmt: skip
    rows += [row(n_test=n, folds=2, fold=f, first=1000 * f, test_split="out_fold") for f, n in enumerate((100, 300))]
    assert panel_of(lambda_rank, only(rows)[1]).held_out == pytest.approx(np.full((2, 2), 80.0))


def test_environments_have_their_own_intervals_and_plain_accuracies() -> None:
    panel = panel_of(environments)
    assert panel.rows == (environments.AVERAGE, *HELD_OUTS)
    own = [100 * plain(name).mean() for name in HELD_OUTS]
    assert panel.plain == pytest.approx((np.mean(own), *own))
    gains = next(points for method, points in panel.gains.items() if method.projection == "shrinkage")
    rows = FRAME[(FRAME["projection"] == "shrinkage") & (FRAME["lambda_"] == 1.0)]
    own_gains = {
        name: answers_in(rows[rows["held_out"] == name].sort_values("fold"), 0) - plain(name) for name in HELD_OUTS
    }
    check(gains[0], own_gains)
    for name, point in zip(HELD_OUTS, gains[1:], strict=True):
        check(point, {name: own_gains[name]})
    assert environments.panels(only([r for r in ROWS if r["held_out"] == "art"])[1], "lodo") == {}


def test_selection_has_every_setting_that_was_tested_everywhere_and_what_is_picked() -> None:
    clouds = panel_of(selection)
    cloud = next(c for c in clouds if c.method.projection == "icm")
    rows = of_icm()
    expected = [
        (100 * np.mean([s[j] for s in part["lodo"]]), 100 * np.mean([t[j] for t in part["target"]]))
        for _, part in rows.groupby(["lambda_", "intervention_set"]) for j in range(3)
    ]  # fmt: skip
    assert sorted(zip(cloud.source, cloud.held_out, strict=True)) == pytest.approx(np.array(sorted(expected)))
    picked = [best_at(name, fold, 2) for name in HELD_OUTS for fold in (0, 1)]
    assert cloud.picked == pytest.approx((57.0, 100 * np.mean([r["target"][1] for r in picked])))
    x, y = (np.concatenate([getattr(c, of) for c in clouds]) for of in ("source", "held_out"))
    assert selection.correlation(clouds) == pytest.approx(stats.spearmanr(np.round(x, 9), np.round(y, 9)).statistic)
    gone = [r for r in ROWS if not (r["projection"] == "icm" and r["held_out"] == "art" and r["lambda_"] == 0.3)]
    fewer = panel_of(selection, only(gone)[1])
    assert len(next(c for c in fewer if c.method.projection == "icm").source) == len(expected) / 2


def test_interventions_are_alone_left_out_and_all() -> None:
    numbers = panel_of(interventions)
    assert numbers[0].of == "CLIP-ICM + zero-shot"
    labels = [line.label for line in numbers]
    assert labels[0] == f"all ({'+'.join(KINDS)})"
    assert labels[1:5] == [f"{kind} alone" for kind in KINDS]
    assert [label.partition(" (")[0] for label in labels[5:9]] == [f"without {kind}" for kind in KINDS]
    assert numbers[0].moved == pytest.approx(0.8)
    assert tuple(numbers[0].kept.values()) == pytest.approx((70, 60, 70))  # rank 2 is picked
    for line, kinds in ((numbers[0], KINDS), (numbers[1], ("blur",))):
        of_set = of_icm(intervention_set="+".join(kinds), lambda_=3.0)
        found = {}
        for name in HELD_OUTS:
            found[name] = answers_in(of_set[of_set["held_out"] == name].sort_values("fold"), 1) - plain(name)
        assert line.gain is not None
        check(line.gain, found)


def test_with_one_set_the_lines_are_methods() -> None:
    rows = [r for r in ROWS if r["intervention_set"] in (None, "+".join(KINDS), "all")]
    numbers = panel_of(interventions, only(rows)[1])
    assert not numbers[0].of
    assert [line.label for line in numbers] == ["CLIP-ICM"]  # shrinkage's rows have no shares
    bare = [{**r, "energy_removed": None, "shift_removed_sources": None, "shift_removed_target": None} for r in rows]
    assert interventions.panels(only(bare)[1], "lodo") == {}


def test_effective_robustness_has_a_line_through_all_plain_backbones() -> None:
    parts = settings(list(BACKBONES))
    [group] = same_but_backbone(parts)
    numbers = robustness.numbers(group)
    assert numbers is not None
    points = np.array([(x, y - 0.01) for x, y, _, _ in BACKBONES.values()])
    x, y = np.log(points / (1 - points)).T
    fit = sm.OLS(y, sm.add_constant(x)).fit()
    expected = 1 / (1 + np.exp(-fit.predict([[1.0, np.log(0.7 / 0.3)]])[0]))
    assert numbers.line.expected(0.7)[0] == pytest.approx(expected)
    shifted = np.log((points[:, 0] - 0.05) / (1.05 - points[:, 0]))
    over = points[:, 1] + 0.05 - 1 / (1 + np.exp(-fit.predict(sm.add_constant(shifted))))
    [(method, above)] = numbers.above.items()
    assert method.projection == "icm"
    assert above == pytest.approx(100 * over.mean())
    dot = numbers.dots[0]
    assert dot.target_bar == pytest.approx(proportion_confint(dot.target * 200, 200, method="beta"))
    assert same_but_backbone(settings(list(BACKBONES)[:7])) == []
    assert same_but_backbone(settings(list(BACKBONES), random_weights=True)) == []


def test_the_forest_has_a_group_for_each_data_set_backbone_and_predictor() -> None:
    parts = results_of([*rows_of("a"), *rows_of("b")])
    every = [(s, c) for s, x in parts for c in comparisons(s, x, Options()).compared]
    tested = {0.01: True, 0.2: False, np.nan: None}
    compared = [(s, replace(c, adjusted=Adjusted(p, 3))) for (s, c), p in zip(every, cycle(tested), strict=False)]
    numbers = forest.numbers(compared, 0.01)
    assert [*numbers.groups] == [("a", "ViT-B-32", "zero-shot"), ("b", "ViT-B-32", "zero-shot")]
    assert len(numbers.lines) == len(compared)
    with style.in_style():
        drawn = forest.draw(numbers).axes[0].lines
    assert not any(line.get_zorder() == 2 for line in drawn)  # three environments give no interval for new ones
    marks = [line for line in drawn if line.get_linestyle() == "None"]
    for mark, (_, made), separated in zip(marks, compared, cycle(tested.values()), strict=False):
        assert mark.get_xdata() == pytest.approx([100 * made.interval.estimate])
        assert (mark.get_marker() == "|") is (separated is None)
        assert (mark.get_markerfacecolor() != "white") is bool(separated)
    assert len(marks) == len(compared)
    many = compared * (forest.MAX_LINES // len(compared) + 1)
    cut = forest.numbers(many, 0.01)
    assert all(line.baseline.is_plain for line in cut.lines)
    assert cut.left_out == len(many) - len(cut.lines) > 0


def test_without_data_there_are_no_numbers() -> None:
    _, selections = only([row(), row(held_out="sketch")])
    for figure in (rank, lambda_rank, environments, selection, interventions):
        assert figure.panels(selections, "lodo") == {}, figure.__name__
