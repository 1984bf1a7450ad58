"""The answer on a terminal: short, 80 columns wide, and made of the numbers of the comparisons."""

from typing import Any

import pytest

from reports.analysis.findings import comparisons
from reports.analysis.options import Options
from reports.analysis.verdicts import answer
from reports.text.terminal import text
from tests.reports.analysis.test_verdicts import of, world
from tests.reports.synthetic import described, row


def everything(icm: float, **other: Any) -> list[dict[str, Any]]:
    rest = [r for name in ("pca", "random") for r in of((0.5, 0.5), name, **other)]
    return [*world((icm, icm), **other), *rest]


def shown(rows: list[dict[str, Any]], missing: list[str] | None = None, color: bool = False) -> str:
    parts = described(rows)
    made = answer(parts, [comparisons(*one, Options()) for one in parts])
    return text(parts, made, missing or [], "out/index.html", color)


def test_one_setting_shows_every_method_with_its_difference_to_plain() -> None:
    lines = shown(everything(0.6)).splitlines()
    assert lines[0].startswith("CLIP-ICM + zero-shot helps (+10.0 points")
    [icm] = [line for line in lines if line.startswith("  CLIP-ICM (largest)")]
    assert icm.split()[2:4] == ["60.0", "+10.0"]
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["Plain", "PCA", "Random", "CLIP-ICM"]
    assert lines[-1] == "Page: out/index.html"


def test_the_interval_is_drawn_where_its_numbers_are() -> None:
    [head, _, *lines] = [line for line in shown(everything(0.6)).splitlines() if "[" in line or "minus plain" in line]
    [icm] = [line for line in lines if "CLIP-ICM" in line]
    scale = float(head.split()[-1])
    start = len(head) - 24
    points = float(icm.split()[3])
    assert icm[start:].index("o") == round((points / scale + 1) / 2 * 23)
    assert icm[start:].index("|") == round(23 / 2)


@pytest.mark.parametrize(("sets", "most"), [(1, 24), (2, 40), (15, 40)])
def test_it_is_short_and_narrow_whatever_there_is(sets: int, most: int) -> None:
    rows = [r for i in range(sets) for p in ("zero_shot", "ridge", "class_means")
            for r in everything(0.6 - 0.01 * i, dataset=f"set{i}", dataset_fingerprint=f"{i}", predictor=p)
            ]  # fmt: skip
    lines = shown(rows, missing=[f"Gap: trial {i}: " + "no memory " * 40 for i in range(30)]).splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Page: out/index.html"
    assert any(line.startswith("and 26 more gaps") for line in lines)


def test_no_number_is_nan() -> None:
    assert "nan" not in shown([row(n_test=20), row(n_test=20, projection="icm", order="largest")]).lower()


def test_only_the_headline_is_bold_and_only_where_color_is_asked_for() -> None:
    assert "\033" not in shown(everything(0.6))
    assert shown(everything(0.6), color=True).splitlines()[0].startswith("\033[1m")
    assert shown(everything(0.6), color=True).replace("\033[1m", "").replace("\033[0m", "") == shown(everything(0.6))


def test_without_plain_prediction_methods_stand_with_their_averages_and_no_difference() -> None:
    lines = shown(of((0.6, 0.6), "own:Projection", lodo_se=None, training_domain_se=None)).splitlines()
    [line] = [line for line in lines if line.startswith("  Projection")]
    assert line.split() == ["Projection", "60.0"]
