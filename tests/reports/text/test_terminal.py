"""Terminal text of the answer: short, 80 columns wide, with the numbers of the comparisons."""

from typing import Any

import pytest

from reports.analysis.findings import comparisons
from reports.analysis.settings import Options
from reports.analysis.verdicts import answer
from reports.text.summary import terminal_text as text
from tests.reports.analysis.test_verdicts import of, world
from tests.reports.synthetic import results_of, row


def everything(icm: float, **other: Any) -> list[dict[str, Any]]:
    rest = [r for name in ("pca", "random") for r in of((0.5, 0.5), name, **other)]
    return [*world((icm, icm), **other), *rest]


def shown(rows: list[dict[str, Any]], missing: list[str] | None = None, color: bool = False) -> str:
    parts = results_of(rows)
    made = answer(parts, [comparisons(*one, Options()) for one in parts])
    return text(made, missing or [], "out/index.html", color)


def test_one_setting_shows_plain_prediction_the_paper_s_method_and_the_best() -> None:
    lines = shown(everything(0.6)).splitlines()
    assert lines[0].startswith("Plain prediction gets 50.0 % of images")
    table = [line.split() for line in lines if line.startswith("  ")]
    assert [words[0] for words in table] == ["Plain", "CLIP-ICM", "PCA", "Random"]
    assert table[0] == ["Plain", "50.0"]
    assert table[1][1:] == ["60.0", "+10.0", "[+9.1,", "+10.9]"]
    assert sum("held_out" in line and "lodo_1se" in line for line in lines) == 1
    assert lines[-1] == "Page: out/index.html"


@pytest.mark.parametrize(("sets", "most"), [(1, 16), (2, 30), (4, 30), (15, 30)])
def test_it_is_short_and_narrow_whatever_there_is(sets: int, most: int) -> None:
    rows = [r for i in range(sets) for p in ("zero_shot", "ridge", "class_means")
            for r in everything(0.6 - 0.01 * i, dataset=f"set{i}", dataset_fingerprint=f"{i}", predictor=p)
            ]  # fmt: skip
    lines = shown(rows, missing=[f"Gap: trial {i}: " + "no memory " * 40 for i in range(30)]).splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Page: out/index.html"
    assert "30 gaps: report.md" in lines  # none of them fits, and none is cut


def test_no_number_is_nan() -> None:
    assert "nan" not in shown([row(n_test=20), row(n_test=20, projection="icm", order="largest")]).lower()


def test_only_the_headline_is_bold_and_only_where_color_is_asked_for() -> None:
    assert "\033" not in shown(everything(0.6))
    assert shown(everything(0.6), color=True).splitlines()[0].startswith("\033[1m")
    assert shown(everything(0.6), color=True).replace("\033[1m", "").replace("\033[0m", "") == shown(everything(0.6))


def test_without_plain_prediction_methods_stand_with_their_averages_and_no_difference() -> None:
    lines = shown(of((0.6, 0.6), "own:Projection", lodo_se=None, training_domain_se=None)).splitlines()
    [line] = [line for line in lines if line.startswith("  own:Projection")]
    assert line.split() == ["own:Projection", "60.0"]


def test_gaps_stand_there_whole_or_are_counted() -> None:
    partial = "PARTIAL: 3 of 4 trials are finished; every number may change. icm-bench sweep RECIPE goes on."
    lines = shown(everything(0.6), missing=[partial, "Gap: a: no memory", "Gap: b: no memory", "Gap: c: no memory"])
    assert f"{partial} Gap: a: no memory Gap: b: no memory and 1 more gap: report.md Page:" in " ".join(lines.split())


def test_methods_that_a_reader_compares_stand_there_with_their_difference() -> None:
    parts = results_of(everything(0.6))
    asked = Options(compare=(("PCA + zero-shot", "CLIP-ICM + zero-shot"),))
    lines = text(answer(parts, [comparisons(*one, asked) for one in parts]), [], "out/index.html").splitlines()
    table = [line.split() for line in lines if line.startswith("  ")]
    assert [words[0] for words in table] == ["Plain", "PCA", "CLIP-ICM", "Random", "PCA"]
    assert table[-1] == ["PCA", "minus", "CLIP-ICM", "-10.0", "[-10.9,", "-9.1]"]
