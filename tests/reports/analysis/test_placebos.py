"""Placebos in reports: averaged draws, ranks and p-values, and candidate rows shared with the real method."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.method.evaluation.selection import picked_by_sources, select
from reports.analysis.comparisons import p_value
from reports.analysis.methods import Method, by_method
from reports.tables import environments
from tests.reports.analysis.test_findings import said
from tests.reports.synthetic import TESTED, frame, only, row
from tests.reports.tables.rows import built

REAL = json.dumps({"kinds": [{"name": "invert"}], "seed": 0})


def of(placebo: str | None, share: float, nuisance: str = "both", lambda_: float = 1.0, **more: Any) -> list[Any]:
    name, _, draw = (placebo or "").partition(" ")
    made: dict[str, Any] = {"projection": "shrinkage", "lambda_": lambda_, "interventions": REAL,
                            "intervention_set": placebo or "all", "placebo": name or None, "placebo_draw": int(draw) if draw else None,
                            "projection_params": json.dumps({"nuisance": nuisance}), **more}  # fmt: skip
    return [row(held_out=h, target=(share,), **made) for h in "ab"]


@pytest.mark.parametrize(
    ("columns", "label", "real"),
    [
        ({"projection": "shrinkage", "placebo": "borrowed"}, "Shrinkage (borrowed)", "Shrinkage"),
        (
            {"projection": "shrinkage", "placebo": "rotated", "placebo_draw": 17, "projection_variant": "images"},
            "Shrinkage (rotated 17, images)", "Shrinkage (images)",
        ),
        (
            {"projection": "icm", "order": "largest", "placebo": "matched", "placebo_draw": 3},
            "CLIP-ICM (matched 3)", "CLIP-ICM",
        ),
        (
            {"projection": "icm", "order": "largest", "placebo": "shuffled", "projection_variant": "equal N"},
            "Truncation (shuffled, equal N)", "Truncation (equal N)",
        ),
        ({"projection": "shrinkage", "projection_variant": "images"}, "Shrinkage (images)", "Shrinkage (images)"),
    ],
)  # fmt: skip
def test_words_of_placebos(columns: dict[str, Any], label: str, real: str) -> None:
    [method] = by_method(frame([row(**columns)]))
    assert method.name == label
    assert (method.placebo, method.draw is not None) == (columns.get("placebo"), "placebo_draw" in columns)
    assert method.real.name == real
    assert method.real.placebo is None
    mean = replace(method, draw=None, draws=9)
    assert mean.real == method.real
    assert (", mean of 9 draws" in mean.name) == bool(method.placebo)


def test_p_values_count_what_is_at_least_as_good() -> None:
    assert p_value(0.9, [0.1] * 199) == 1 / 200
    assert p_value(0.5, [0.5, 0.4, 0.6]) == 3 / 4
    assert p_value(0.1, [0.5] * 19) == 1


def test_draws_share_one_table_line() -> None:
    shares = [0.40, 0.50, 0.66, 0.44]
    draws = [r for i, share in enumerate(shares) for r in of(f"rotated {i + 1}", share)]
    rows = [*of(None, 0.62), *draws, *of("borrowed", 0.55), *(row(held_out=h) for h in "ab")]
    made = built(environments.TABLE, rows)
    lines = {line.heading: line.cells for _, line in made.lines()}
    assert list(lines) == ["Plain", "Shrinkage", "Shrinkage (borrowed)", "Shrinkage (rotated, mean of 4 draws)"]
    mean = lines["Shrinkage (rotated, mean of 4 draws)"]
    assert [column.name for column in made.columns] == ["a", "b", "average", "worst environment"]
    assert [cell.value for cell in mean] == pytest.approx([100 * np.mean(shares)] * 4)
    assert not any(cell.best or cell.error or cell.low for cell in mean)
    notes = " ".join([*made.notes, *made.details])
    assert "Placebos of these sets, methods of their own: borrowed, rotated" in notes
    assert "intervention sets all;" in notes
    for rule in ("oracle", "ceiling"):
        assert not any("draws" in line.name for _, line in built(environments.TABLE, rows, rule=rule).lines())


def test_an_incomplete_draw_is_excluded_from_the_mean_with_a_note() -> None:
    draws = [*of("rotated 1", 0.40), of("rotated 2", 0.50)[0], of("rotated 2", 0.30)[1], of("rotated 3", 0.90)[0]]
    rows = [*of(None, 0.62), *draws, *(row(held_out=h) for h in "ab")]
    [mean] = [line.cells for _, line in built(environments.TABLE, rows).lines() if "draws" in line.name]
    assert [cell.value for cell in mean] == pytest.approx([45.0, 35.0, 40.0, 35.0])
    assert {cell.note for cell in mean} == {"2 of 3 draws"}


def test_the_real_method_is_ranked_among_draws_with_a_p_value_if_untrained() -> None:
    def among(share: float, **more: Any) -> str:
        draws = [r for i in range(19) for r in of(f"matched {i + 1}", 0.3 + 0.01 * i, **more)]
        return said([*of(None, share, **more), *draws])

    first, level = among(0.6), among(0.38)
    assert "Shrinkage + zero-shot with 60.0 % ranks 1 of 20 among itself and 19 draws of matched" in first
    assert "whose mean is 39.0 %" in first
    assert "p = 0.050, (1 + draws at least as good)" in first
    assert "ranks 11 to 12 of 20" in level
    assert "p = 0.600" in level
    trained = among(0.6, predictor="linear_probe")
    assert "no p-value, for the predictor is trained" in trained
    assert "p = 0.050" not in trained


def test_rows_of_environments_alone_are_candidates_of_placebos() -> None:
    other = json.dumps({"kinds": [{"name": "grayscale"}], "seed": 0})
    rows = [
        *of(None, 0.7, "interventions"), *of(None, 0.6, "environments", 3.0), *of(None, 0.8),
        *of(None, 0.9, "environments", interventions=other, intervention_set="grey"),
        *of("borrowed", 0.5), *of("rotated 1", 0.5), *of("rotated 2", 0.65),
    ]  # fmt: skip
    chosen = only(rows)[1]
    picks = {m.variant: chosen.pooled(m, "lodo").measure()["a", 0] for m in by_method(chosen.rows)}
    assert picks["borrowed"] == pytest.approx(0.6)  # and not 0.9, which is of another set
    assert picks["rotated 1"] == pytest.approx(0.6)
    assert picks["rotated 2"] == pytest.approx(0.65)
    assert picks[""] == pytest.approx(0.9)


def test_a_placebo_in_the_penalty_of_a_probe_has_no_p_value() -> None:
    def soft(placebo: str | None, share: float, **more: Any) -> list[Any]:
        return of(
            placebo, share, predictor="soft_penalty", **{"projection": "identity", "projection_params": "{}", **more}
        )

    rows = [*soft(None, 0.6), *soft("borrowed", 0.7), *(r for i in range(3) for r in soft(f"rotated {i + 1}", 0.4))]
    labels = ["Soft-penalty probe", "Soft-penalty probe (borrowed)", "Soft-penalty probe (rotated, mean of 3 draws)"]
    assert [line.name for _, line in built(environments.TABLE, rows).lines()] == labels
    assert [m.is_plain for m in only(rows)[1].parts] == [True, False]
    text = said(rows)
    assert "Soft-penalty probe with 60.0 % ranks 1 of 4 among itself and 3 draws of rotated" in text
    assert "no p-value, for the predictor is trained" in text
    # The placebo changes the penalty, so that shrinkage by environments has rows of its own for it.
    shrunk = {"projection": "shrinkage", "projection_params": json.dumps({"nuisance": "environments"})}
    of_real = only([*soft(None, 0.9, **shrunk), *soft("borrowed", 0.5, **shrunk)])[1]
    borrowed = Method("shrinkage", None, "soft_penalty", placebo="borrowed")
    assert of_real.pooled(borrowed, "lodo").measure()["a", 0] == pytest.approx(0.5)


@pytest.mark.parametrize("placebo", ["borrowed", "rotated 1"])
def test_rows_of_environments_alone_do_not_fill_missing_folds_of_a_placebo(placebo: str) -> None:
    real = [r for fold in (0, 1) for name in ("environments", "both") for r in of(None, 0.6, name, folds=2, fold=fold)]
    chosen = only([*real, *of(placebo, 0.5, folds=2, fold=0)])[1]
    name, _, draw = placebo.partition(" ")
    method = Method("shrinkage", None, "zero_shot", placebo=name, draw=int(draw) if draw else None)
    assert chosen.folds_present(method) == (1, 2)
    assert not chosen.pooled(method, "lodo")
    if placebo == "rotated 1":
        text = said([*real, *of(placebo, 0.5, folds=2, fold=0)])
        assert "was not ranked among draws of rotated: not all have all that is held out" in text


def test_ties_of_a_placebo_go_to_the_first_row_in_grid_order() -> None:
    def made(names: list[str], placebo: str | None) -> list[Any]:
        return [r for lambda_ in (0.3, 1.0) for name in names for r in of(placebo, 0.5, name, lambda_)]

    real = made(["interventions", "environments", "both"], None)
    parts = by_method(frame([*made(["interventions", "both"], "borrowed"), *real]))
    borrowed = parts[Method("shrinkage", None, "zero_shot", placebo="borrowed")]
    at_a = borrowed[borrowed["held_out"] == "a"]
    names = [json.loads(params)["nuisance"] for params in at_a["projection_params"]]
    assert names == ["interventions", "environments", "both"] * 2
    assert at_a["lambda_"].tolist() == [0.3] * 3 + [1.0] * 3


@pytest.mark.parametrize("seed", range(5))
def test_stored_rows_of_draws_are_the_picks_of_source_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = [
        row(held_out=h, fold=f, folds=2, projection="shrinkage", lambda_=float(i), projection_params=str(i),
            target=(rng.integers(8, size=3) / 8).tolist(), training_domain=(rng.integers(8, size=3) / 8).tolist(),
            lodo=(rng.integers(8, size=3) / 8).tolist())
        for h in "ab" for f in (0, 1) for i in range(9)
    ]  # fmt: skip
    kept = picked_by_sources(made)
    assert len(kept) <= 8
    assert kept == sorted(kept)
    for rule in ("lodo", "training_domain"):
        among_all, among_kept = (select(frame(rows), rule, TESTED).frame() for rows in (made, [made[i] for i in kept]))
        columns = ["held_out", "fold", "rank", "score", "lambda_", "projection_params", "target"]
        pd.testing.assert_frame_equal(among_all[columns], among_kept[columns])
