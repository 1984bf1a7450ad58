"""The files that figures become, and their captions. All rows are synthetic."""

from typing import Any

from reports.chosen import Selections
from reports.figures import rank_curve, spectrum
from reports.settings import by_setting
from tests.reports.synthetic import TESTED, frame, row

ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all", "lambda_": 1.0}


def captions(rows: list[dict[str, Any]]) -> list[str]:
    [(setting, part)] = by_setting(frame(rows))
    drawings = [draw(setting, Selections(part, TESTED), "lodo") for draw in (rank_curve, spectrum)]
    return [drawing.caption for drawing in drawings if drawing is not None]


def test_figures_are_png_and_pdf_with_the_protocol_in_the_caption() -> None:
    rows = [row(), row(**ICM, target=[0.1, 0.2, 0.3], spectrum=[1.0, -1.0], random_weights=False)]
    [(setting, part)] = by_setting(frame(rows))
    for draw in (rank_curve, spectrum):
        drawing = draw(setting, Selections(part, TESTED), "lodo")
        assert drawing is not None
        assert drawing.png.startswith(b"\x89PNG")
        assert drawing.pdf.startswith(b"%PDF")
        assert b"CreationDate" not in drawing.pdf
        for words in ("out_20", "seed 0", "n = 100 test images", "held_out", "rule lodo"):
            assert words in drawing.caption


def test_the_caption_says_what_is_chosen_at_each_rank_and_what_the_band_is() -> None:
    rows = [row(**ICM, target=[0.1, 0.2, 0.3], seed=seed) for seed in (0, 1)]
    [caption] = captions(rows)
    assert "Everything but the rank" in caption
    assert "is chosen at each rank by rule lodo" in caption
    assert "Band: ± one standard error over test images;" in caption
    assert "seeds 0, 1;" in caption
    assert "over seeds" not in caption
    [few] = captions([row(**ICM, target=[0.1, 0.2, 0.3], n_test=20)])
    assert "No band: one takes 30 test images" in few


def test_captions_count_groups_and_name_folds() -> None:
    rows = [
        row(
            **ICM, target=[0.1, 0.2, 0.3], held_out=held_out, groups=[100 * fold + i // 3 for i in range(120)],
            folds=2, fold=fold, test_split="out_fold", spectrum=[1.0, 0.5], n_test=120,
        )
        for held_out in ("a", "b")
        for fold in (0, 1)
    ]  # fmt: skip
    curve, spectra = captions(rows)
    for caption in (curve, spectra):
        assert "seed 0, 2 folds; n = 80 groups of test images per seed in 2 held-out environments" in caption
    assert "one standard error over groups of test images" in curve
    assert "mean over held-out environments, seeds and folds" in spectra


def test_without_spectra_there_is_no_spectrum_figure() -> None:
    [(setting, part)] = by_setting(frame([row()]))
    assert spectrum(setting, Selections(part, TESTED), "lodo") is None
