"""Figures with a panel for each data set: nothing overlaps, and each panel has the numbers of its data set. Synthetic."""

from typing import Any

import pytest

from reports.analysis.findings import comparisons
from reports.analysis.selections import Selections
from reports.analysis.settings import Options, Setting
from reports.figures import Drawing, all_drawings, groups_of, interventions, rank, style
from tests.reports.figures.rows import plain_and_pca, rows_of
from tests.reports.figures.test_drawing import check, check_apart
from tests.reports.synthetic import results_of

SETS = ("a set with a name that is rather long", "first", "second", "third")
Parts = list[tuple[Setting, Selections]]


def drawings_of(parts: Parts) -> dict[str, Drawing]:
    compared = [(s, c) for s, x in parts for c in comparisons(s, x, Options()).compared]
    return {one.name: one for one in all_drawings(parts, compared, Options())}


@pytest.fixture(scope="module")
def parts() -> Parts:
    return results_of([one for name in SETS for one in rows_of(name)])


@pytest.fixture(scope="module")
def drawings(parts: Parts) -> dict[str, Drawing]:
    return drawings_of(parts)


def test_data_sets_share_a_figure_of_each_kind_with_a_panel_for_each(
    drawings: dict[str, Drawing], parts: Parts
) -> None:
    assert [*drawings] == ["forest", "environments", "rank", "lambda_rank", "selection", "interventions", "spectrum"]
    shown = drawings["rank"].numbers
    assert [title for title, _ in shown] == [setting.dataset for setting, _ in parts] == list(SETS)
    for (_, curves), (_, selections) in zip(shown, parts, strict=True):
        assert rank.panels(selections, selections.base_rule) == {"zero-shot": curves}
    for name, one in drawings.items():
        assert name == "forest" or all(f"n = 720 in 3 ({dataset})" in one.caption for dataset in SETS), name


def test_as_many_predictors_have_panels_as_fit() -> None:
    predictors = ("zero_shot", "linear_probe")
    rows = [one for name in "abcde" for of in predictors for one in plain_and_pca(dataset=name, predictor=of)]
    parts = results_of(rows)
    two = drawings_of(parts[:2])["rank"]
    assert [title for title, _ in two.numbers] == [
        f"{name}, {of}" for name in "ab" for of in ("zero-shot", "linear probe")
    ]
    assert "Predictors that are drawn" not in two.caption
    five = drawings_of(parts)["rank"]
    assert [title for title, _ in five.numbers] == [*"abcde"]
    assert "Predictors that are drawn: zero-shot." in five.caption


def test_texts_are_inside_and_do_not_overlap(drawings: dict[str, Drawing]) -> None:
    with style.in_style():
        sheets = {name: one.draw(one.numbers) for name, one in drawings.items()}
    for name, sheet in sheets.items():
        check(sheet, name)
        check_apart(sheet, name)


def test_a_legend_names_only_the_shares_that_were_measured() -> None:
    def legends(**shares: Any) -> list[list[str]]:
        [(_, selections)] = results_of([{**one, **shares} for one in rows_of()])
        with style.in_style():
            sheet = interventions.draw([*interventions.panels(selections, selections.rule).items()])
        return [[text.get_text() for text in legend.get_texts()] for legend in sheet.legends]

    assert legends(energy_removed=None, shift_removed_sources=None, shift_removed_target=None) == []
    assert legends(shift_removed_sources=None, shift_removed_target=None) == [["kept: energy"]]


def test_protocols_have_figures_of_their_own_held_out_environments_first(parts: Parts) -> None:
    other = results_of(rows_of("first", protocol="held_out_open_class", class_half="new"))
    assert [[s.dataset for s, _ in group] for group in groups_of([*other, *parts])] == [[*SETS], ["first"]]
    names = [*drawings_of([*other, *parts])]
    assert [name for name in names if name.startswith("forest")] == [
        "forest-held_out-out_fold-all", "forest-held_out_open_class-out_fold-new"]  # fmt: skip
