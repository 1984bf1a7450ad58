"""The numbers that figures draw, and the files they become. All rows are synthetic."""

from typing import Any

import pytest

from reports.chosen import Selections
from reports.curves import rank_curves, spectra
from reports.figures import rank_curve, spectrum
from reports.settings import by_setting
from tests.reports.synthetic import frame, row

ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all"}


def test_rank_curve_follows_the_row_that_the_rule_picks_and_averages_over_environments_then_seeds() -> None:
    rows = [
        row(**ICM, held_out="a", lambda_=1.0, target=[0.1, 0.2, 0.3]),
        row(**ICM, held_out="a", lambda_=10.0, target=[0.9, 0.9, 0.9], lodo=[0.0, 0.0, 0.1]),
        row(**ICM, held_out="b", lambda_=1.0, target=[0.3, 0.4, 0.5]),
        row(**ICM, held_out="a", seed=1, lambda_=1.0, target=[0.3, 0.2, 0.3]),
        row(**ICM, held_out="b", seed=1, lambda_=1.0, target=[0.3, 0.4, 0.5]),
        row(**ICM, held_out="a", seed=2, lambda_=1.0, target=[0.0, 0.0, 0.0]),  # b is missing: no such seed
    ]
    [curve] = rank_curves(Selections(frame(rows)), "lodo")
    assert curve.ranks.tolist() == [1, 2, 4]
    assert curve.mean == pytest.approx([25, 30, 40])  # seeds: 20, 30, 40 and 30, 30, 40
    assert curve.stderr == pytest.approx([5, 0, 0])


def test_spectra_are_averaged_per_lambda_and_largest_first() -> None:
    rows = [
        row(**ICM, lambda_=1.0, spectrum=[3.0, 1.0]),
        row(**ICM, lambda_=1.0, spectrum=[5.0, -1.0], seed=1),
        row(**ICM, lambda_=10.0, spectrum=[2.0, -8.0]),
        row(projection="pca", spectrum=[6.0, 2.0]),
    ]
    found = spectra(Selections(frame(rows)), "lodo")
    assert [(line.lambda_, line.values.tolist()) for line in found.lines] == [
        (1.0, [4.0, 0.0]),
        (10.0, [2.0, -8.0]),
        (None, [6.0, 2.0]),
    ]


def test_released_order_shows_the_same_spectrum() -> None:
    rows = [row(projection="icm", order="released", lambda_=1.0, spectrum=[-1.0, 0.5, 3.0])]
    [line] = spectra(Selections(frame(rows)), "lodo").lines
    assert line.values.tolist() == [3.0, 0.5, -1.0]


def test_figures_are_png_and_pdf_with_the_protocol_in_the_caption() -> None:
    rows = [
        row(),
        row(**ICM, lambda_=1.0, target=[0.1, 0.2, 0.3], spectrum=[1.0, -1.0], random_weights=False),
    ]
    [(setting, part)] = by_setting(frame(rows))
    for draw in (rank_curve, spectrum):
        drawing = draw(setting, Selections(part), "lodo")
        assert drawing is not None
        assert drawing.png.startswith(b"\x89PNG")
        assert drawing.pdf.startswith(b"%PDF")
        assert b"CreationDate" not in drawing.pdf
        for words in ("out_20", "seed 0", "n = 10", "held_out", "rule lodo"):
            assert words in drawing.caption


def test_without_spectra_there_is_no_spectrum_figure() -> None:
    [(setting, part)] = by_setting(frame([row()]))
    assert spectrum(setting, Selections(part), "lodo") is None
