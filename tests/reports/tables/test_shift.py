"""SYNTHETIC rows: table of the removed shift and its correlation with the gain."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from reports.analysis.settings import Options
from reports.analysis.spans import picked
from reports.tables import behind, paper_tables
from tests.reports.analysis.test_spans import HELD_OUTS, ICM, made
from tests.reports.synthetic import only, results_of, row
from tests.reports.tables.rows import built, cell, line, table_of

SHARES = ("energy_removed", "shift_removed_sources", "shift_removed_target")
MOVED = ("shift_moved_sources", "shift_moved_target")
PCA = [
    row(projection="pca", held_out=h, seed=s, energy_removed=[0.25], shift_removed_sources=[0.125])
    for h in HELD_OUTS
    for s in (0, 1)
]


def test_shares_stand_in_percent_with_bounds_marked_and_gaps_with_a_reason() -> None:
    rows = [*made(interventions='{"kinds": [{"name": "blur"}]}'), *PCA]
    table = built(behind.SHIFT, rows)
    assert [one.heading for one in table.blocks[0].lines] == ["PCA", "CLIP-ICM"]
    expected = picked(only(rows)[1], ICM, "lodo")
    found = dict(zip((*SHARES, *MOVED), line(table, "CLIP-ICM").cells, strict=False))
    for name, one in found.items():
        value = expected[name]
        assert value is not None
        assert one.value == pytest.approx(100 * value if name in SHARES else value)
        assert one.bound == name.endswith("target")
        assert one.text is None
        assert set(one.trials) <= {r["trial_id"] for r in rows}
        assert one.trials
    pca = line(table, "PCA").cells
    assert [one.value for one in pca] == [25, 12.5, *[None] * 7]
    assert all(one.note for one in pca[2:])
    assert [t.name for t in paper_tables(results_of(rows), Options())].count("shift") == 1


def test_rank_correlations_with_the_gain_have_their_range_over_environments_and_n() -> None:
    rows = made()
    table = built(behind.SHIFT, [*rows, *PCA])
    single = []
    for h in HELD_OUTS:
        own = [r for r in rows if r["projection"] == "icm" and r["held_out"] == h]
        removed, target = ({(r["lambda_"], r["seed"]): r[k] for r in own} for k in ("shift_removed_sources", "target"))
        means = [np.mean([of[x, 0], of[x, 1]], axis=0) for of in (removed, target) for x in (0.1, 1.0, 10.0)]
        single.append(spearmanr(np.concatenate(means[:3]), np.concatenate(means[3:])).statistic)
    found = cell(table, "CLIP-ICM", "rho of the shift removed (sources)")
    assert found.text is not None
    assert found.text.split(" ", 1)[1] == f"[{min(single):+.2f}, {max(single):+.2f}]"
    assert found.value == pytest.approx(np.mean(single), abs=0.02)  # the mean, but for ties
    assert cell(table, "CLIP-ICM", "settings behind rho").value == 18  # nine settings in each of two environments
    few = built(behind.SHIFT, [*(r for r in rows if r.get("lambda_") != 10.0), *PCA])  # six settings in each
    assert not any(c.group.startswith("rho") for c in few.columns)
    assert not any("rho" in note for note in few.notes)


def test_draws_of_a_placebo_are_their_mean_with_the_lowest_and_the_highest() -> None:
    kinds = {"kinds": [{"name": "invert"}], "seed": 0}
    rows, shares = made(interventions=json.dumps(kinds)), [0.2, 0.4, 0.9]
    for number, share in enumerate(shares, 1):
        rows += [
            row(
                projection="icm", order="largest", held_out=h, seed=s, lambda_=1.0, intervention_set="rotated",
                placebo="rotated", placebo_draw=number, interventions=json.dumps(kinds), energy_removed=[0.5],
                shift_removed_sources=[share], shift_moved_sources=1.0,
            )
            for h in HELD_OUTS for s in (0, 1)
        ]  # fmt: skip
    table = built(behind.SHIFT, rows)
    [own] = [one for one in table.blocks[0].lines if one.name.startswith("CLIP-ICM (rotated, mean of 3 draws)")]
    assert [one.text for one in own.cells[:4]] == [
        "50.0 [50.0, 50.0]", "50.0 [20.0, 90.0]", None, "1.00 [1.00, 1.00]"]  # fmt: skip
    assert [one.value for one in own.cells[1:3]] == [pytest.approx(50), None]


def test_rows_of_earlier_versions_have_nothing_to_say() -> None:
    empty = dict.fromkeys((*SHARES, *MOVED))
    assert table_of(behind.SHIFT, results_of([{**r, **empty} for r in [*made(), *PCA]])) is None
    assert table_of(behind.SHIFT, results_of([row(held_out=h) for h in HELD_OUTS])) is None
