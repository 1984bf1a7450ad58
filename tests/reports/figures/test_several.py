"""Figures with a panel for each data set: nothing overlaps, and each panel has the numbers of its data set. Synthetic."""

from typing import Any

import pytest

from reports.analysis.chosen import Selections
from reports.analysis.findings import comparisons
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.figures import Drawing, Figure, for_paper, forest, interventions, rank, several_drawings, style
from tests.reports.figures.rows import rows_of
from tests.reports.figures.test_drawing import check, check_apart
from tests.reports.synthetic import described

SETS = ("first", "second", "third", "a set with a name that is rather long")
Parts = list[tuple[Setting, Selections]]


@pytest.fixture(scope="module")
def parts() -> Parts:
    return described([row for name in SETS for row in rows_of(name)])


@pytest.fixture(scope="module")
def drawings(parts: Parts) -> dict[str, Drawing]:
    compared = [(s, c) for s, x in parts[:1] for c in comparisons(s, x, Options()).compared]
    return {one.name: one for one in several_drawings(parts, compared, 0.01)}


def test_there_is_one_of_each_kind_with_a_panel_for_each_data_set(drawings: dict[str, Drawing], parts: Parts) -> None:
    kinds = ("forest", "environments", "lambda_rank", "rank", "spectrum", "interventions")
    assert tuple(drawings) == tuple(f"{kind}-sets" for kind in kinds)
    shown = drawings["rank-sets"].numbers
    assert [title for title, _ in shown.panels] == [setting.dataset for setting, _ in parts]
    for (_, curves), (_, selections) in zip(shown.panels, parts, strict=True):
        own = rank.numbers(selections, selections.rule)
        assert own is not None
        assert curves == own.panels[0][1]
    for name in kinds[1:]:
        caption = drawings[f"{name}-sets"].caption
        assert all(f"n = 720 in 3 ({dataset})" in caption for dataset in SETS), name


def test_letters_lie_inside_and_not_on_one_another(drawings: dict[str, Drawing]) -> None:
    with style.in_style():
        sheets = {name: one.draw(one.numbers) for name, one in drawings.items()}
    for name, sheet in sheets.items():
        check(sheet, name)
        check_apart(sheet, name)


def test_a_legend_names_only_the_shares_that_were_measured() -> None:
    def legends(**shares: Any) -> list[list[str]]:
        [(_, selections)] = described([{**one, **shares} for one in rows_of()])
        numbers = interventions.numbers(selections, selections.rule)
        assert numbers is not None
        with style.in_style():
            sheet = interventions.draw(numbers)
        return [[text.get_text() for text in legend.get_texts()] for legend in sheet.legends]

    assert legends(energy_removed=None, shift_removed_sources=None, shift_removed_target=None) == []
    assert legends(shift_removed_sources=None, shift_removed_target=None) == [["kept: energy"]]


def test_the_forest_tells_protocols_apart(parts: Parts) -> None:
    other = described(rows_of("first", protocol="fixed_split"))
    compared = [(s, c) for s, x in [parts[0], *other] for c in comparisons(s, x, Options()).compared]
    numbers = forest.forest_numbers(compared, 0.01)
    assert numbers is not None
    keys = [key[:2] for key, _ in numbers.groups]
    assert keys == [(parts[0][0].dataset, "held_out"), ("first", "fixed_split")]


def test_the_paper_has_these_those_over_backbones_and_the_first_of_pairs() -> None:
    names = ("rank-a", "rank-sets", "pairs-a", "pairs-b", "robustness-x", "map-a")
    figures = [Figure(name, {}, "", 3.25) for name in names]
    assert [one.name for one in for_paper(figures)] == ["rank-sets", "robustness-x", "pairs-a"]
