"""SYNTHETIC rows: the table of what methods remove of the shift, and of whether that goes with what they gain."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from reports.methods import Method
from reports.options import Options
from reports.paper import paper_tables, shift
from reports.spans import picked
from reports.table import Table
from tests.reports.paper.rows import cell, described, line
from tests.reports.synthetic import row
from tests.reports.test_spans import HELD_OUTS, ICM, made

SHARES = ("energy_removed", "shift_removed_sources", "shift_removed_target")
MOVED = ("shift_moved_sources", "shift_moved_target")
PCA = [
    row(projection="pca", held_out=h, seed=s, energy_removed=[0.25], shift_removed_sources=[0.125])
    for h in HELD_OUTS
    for s in (0, 1)
]


def table_of(rows: list[dict[str, Any]]) -> Table:
    table = shift.build(described(rows), Options())
    assert table is not None
    return table


def test_shares_stand_in_percent_with_bounds_marked_and_gaps_with_a_reason() -> None:
    rows = [*made(interventions='{"kinds": [{"name": "blur"}]}'), *PCA]
    table = table_of(rows)
    assert table.name == "shift"
    assert [one.heading for one in table.blocks[0].lines] == ["PCA", "CLIP-ICM"]
    expected = picked(described(rows)[0][1], ICM, "lodo")
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
    columns = [f"{c.group}: {c.heading}" for c in table.columns[:5]]
    assert columns == ["Removed: energy", "Removed: shift (sources)", "Removed: to target †",
                       "C_d along the shift: sources", "C_d along the shift: to target †"]  # fmt: skip
    assert [t.name for t in paper_tables(described(rows), Options())].count("shift") == 1


def test_rank_correlations_with_the_gain_have_their_range_over_environments_and_n() -> None:
    rows = made()
    table = table_of([*rows, *PCA])
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
    assert any("no p-value" in note for note in table.notes)
    few = table_of([*(r for r in rows if r.get("lambda_") != 10.0), *PCA])  # six settings in each
    assert not any(c.group.startswith("rho") for c in few.columns)
    assert not any("rho" in note for note in few.notes)


def test_draws_of_a_placebo_are_their_mean_with_the_lowest_and_the_highest() -> None:
    kinds = {"kinds": [{"name": "invert"}], "seed": 0}
    rows, shares = made(interventions=json.dumps(kinds)), [0.2, 0.4, 0.9]
    for number, share in enumerate(shares, 1):
        content = json.dumps(kinds | {"placebo": {"name": "rotated"}})
        rows += [
            row(
                projection="icm", order="largest", held_out=h, seed=s, lambda_=1.0, intervention_set="rotated",
                projection_variant=f"rotated {number}", interventions=content, energy_removed=[0.5],
                shift_removed_sources=[share], shift_moved_sources=1.0,
            )
            for h in HELD_OUTS for s in (0, 1)
        ]  # fmt: skip
    table = table_of(rows)
    label = Method("icm", "largest", "zero_shot", "rotated, mean of 3 draws").label
    [own] = [one for one in table.blocks[0].lines if one.name == label]
    assert [one.text for one in own.cells[:4]] == [
        "50.0 [50.0, 50.0]", "50.0 [20.0, 90.0]", None, "1.00 [1.00, 1.00]"]  # fmt: skip
    assert own.cells[1].value == pytest.approx(50)
    assert own.cells[2].value is None
    assert any("lowest and the highest draw" in note for note in table.notes)


def test_rows_of_earlier_versions_have_nothing_to_say() -> None:
    empty = dict.fromkeys((*SHARES, *MOVED))
    assert shift.build(described([{**r, **empty} for r in [*made(), *PCA]]), Options()) is None
    assert shift.build(described([row(held_out=h) for h in HELD_OUTS]), Options()) is None
