"""The main table and those of environments against hand-made expectations. All rows are synthetic."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.analysis.methods import Method
from reports.analysis.settings import Options
from reports.tables import environments, main, paper_tables
from reports.tables.words import short_name
from tests.reports.synthetic import results_of, row
from tests.reports.tables.rows import ICM, PCA, PLAIN, N, block, built, cell, line, method_rows, setting

SHARES = {  # (data set, backbone) -> method -> shares in the environments a and b
    ("one", "A"): ((0.4, 0.6), (0.45, 0.65), (0.7, 0.8)),
    ("two", "A"): ((0.2, 0.3), (0.2, 0.3), (0.6, 0.5)),
    ("one", "B"): ((0.5, 0.5), (0.5, 0.51), (0.51, 0.51)),
    ("two", "B"): ((0.1, 0.3), (0.1, 0.3), (0.1, 0.3)),
}


def four() -> list[dict[str, Any]]:
    return [
        one
        for (dataset, backbone), shares in SHARES.items()
        for what, of_method in zip((PLAIN, PCA, ICM), shares, strict=True)
        for one in method_rows(what, of_method, **setting(dataset, backbone))
    ]


def test_methods_by_data_sets_with_their_average_and_a_block_for_each_backbone() -> None:
    table = built(main.TABLE, four())
    assert [one.name for one in table.columns] == ["one", "two", "average over data sets", "minus plain"]
    assert [(one.title, one.part) for one in table.blocks] == [("A", "A"), ("B", "B")]
    assert [one.heading for one in table.blocks[0].lines] == ["Plain", "PCA", "CLIP-ICM"]
    for place, backbone in enumerate("AB"):
        for number, name in enumerate(("Plain", "PCA", "CLIP-ICM")):
            means = [100 * np.mean(SHARES[dataset, backbone][number]) for dataset in ("one", "two")]
            found = [one.value for one in line(table, name, place).cells]
            assert found[:3] == pytest.approx([*means, np.mean(means)])
    # variance of a mean over two environments of 100 images, each image a cluster: 200 / 199 sum p q / n / 4
    plain = SHARES["one", "A"][0], SHARES["two", "A"][0]
    variances = [200 / 199 * sum(p * (1 - p) / N for p in shares) / 4 for shares in plain]
    one, two, average, gain = line(table, "Plain").cells
    assert [one.error, two.error] == pytest.approx([100 * np.sqrt(v) for v in variances])
    assert average.error == pytest.approx(100 * np.sqrt(sum(variances)) / 2)
    half = stats.t.ppf(0.975, sum(variances) ** 2 / sum(v**2 / 199 for v in variances)) * average.error
    assert (average.low, average.high) == pytest.approx((average.value - half, average.value + half))
    assert (average.n_images, average.n_clusters, average.seeds, average.spread) == (400, 400, (0,), None)
    assert (gain.value, gain.note) == (None, "plain prediction itself")
    assert set(one.trials) == {"identity-None-zero_shot-a-0--1", "identity-None-zero_shot-b-0--1"}


def test_the_gain_is_paired_and_pooled_over_data_sets() -> None:
    table = built(main.TABLE, four())
    gain = cell(table, "CLIP-ICM", "minus plain")
    d = np.array([[0.3, 0.2], [0.4, 0.2]])  # gained in one and two, environments a and b
    variances = 200 / 199 * (d * (1 - d) / N).sum(axis=1) / 4
    assert gain.signed
    assert gain.value == pytest.approx(100 * d.mean())
    assert gain.error == pytest.approx(100 * np.sqrt(variances.sum()) / 2)
    half = stats.t.ppf(0.975, variances.sum() ** 2 / (variances**2 / 199).sum()) * gain.error
    assert (gain.low, gain.high) == pytest.approx((gain.value - half, gain.value + half))


def test_bold_is_not_separated_from_the_best_and_absent_if_all_are_tied() -> None:
    table = built(main.TABLE, four())
    bold = [[[one.best for one in of_line.cells] for of_line in part.lines] for part in table.blocks]
    assert bold[0] == [[False] * 4, [False] * 4, [True, True, True, False]]
    assert not np.array(bold[1]).any()  # one or two of 200 answers differ, or none
    said = next(note for note in table.notes if note.startswith("Nothing is bold"))
    assert "one (B, zero-shot)" in said
    assert "(A" not in said


def test_methods_equal_to_plain_prediction_are_marked_and_never_bold() -> None:
    rows = [
        *method_rows(PLAIN, (0.8, 0.8), ranks=[4]), *method_rows(ICM, (0.3, 0.3)),
        *(row(held_out=h, target=(0.1, 0.1, 0.8), **PCA) for h in "ab"),
    ]  # fmt: skip
    table = built(main.TABLE, rows)
    pca = line(table, "PCA")
    assert pca.equals_plain
    assert pca.cells[0].equals_plain
    assert [one.cells[0].best for one in table.blocks[0].lines] == [True, False, False]
    assert [one.cells[-1].text for one in table.blocks[0].lines] == ["2 of 2", "2 of 2", "0 of 2"]
    assert table.columns[-1].name == "plain in k of n picks"


@pytest.mark.parametrize(
    ("what", "equal"),
    [
        ({"projection": "pca"}, True), ({"projection": "leace"}, False), ({"projection": "mine:Own"}, False),
        ({"projection": "mine:Own", "projection_traits": ["plain_at_full_rank"]}, True),
        ({"projection": "shrinkage", "lambda_": 0.0}, True), ({"projection": "shrinkage", "lambda_": 1.0}, False),
        ({"projection": "icm", "lambda_": 0.0, "dim": 8}, False),  # PCA at rank 4
        ({"projection": "biased_prompts", "lambda_": 0.0}, False),  # removes directions all the same
        ({"projection": "pca", "predictor": "soft_penalty", "pairs_share": 0.1}, False),  # whose C_d is another one
        ({"projection": "identity", "predictor": "soft_penalty", "placebo": "borrowed"}, False),
    ],
)  # fmt: skip
def test_traits_of_the_projection_determine_equality_with_plain_prediction(what: dict[str, Any], equal: bool) -> None:
    method, predictor = {"dim": 4, **what}, what.get("predictor", "zero_shot")
    rows = method_rows(PLAIN, (0.6, 0.4), predictor=predictor) + method_rows(method, (0.6, 0.4))
    *_, one = (line for _, line in built(environments.TABLE, rows).lines())
    assert one.equals_plain == equal
    assert one.cells[0].equals_plain == equal


@pytest.mark.parametrize(("target", "dim"), [((0.1, 0.9, 0.2), 4), ((0.1, 0.2, 0.9), 8)])
def test_the_column_of_plain_picks_exists_only_with_plain_picks(target: tuple[float, ...], dim: int) -> None:
    """The highest of ranks up to 4 is not the full space of 8 dimensions."""
    rows = method_rows(PLAIN, (0.5, 0.5), dim=dim) + [row(held_out=h, target=target, dim=dim, **PCA) for h in "ab"]
    table = built(main.TABLE, rows)
    assert [one.name for one in table.columns] == ["synthetic", "minus plain"]


def test_gains_use_the_same_rule_and_predictor_for_plain_prediction() -> None:
    choices = [('{"c": 1}', 0.5, 0.2), ('{"c": 10}', 0.6, 0.7)]
    rows = method_rows(PLAIN, (0.1, 0.1)) + method_rows(ICM, (0.8, 0.8), predictor="ridge")
    rows += [row(held_out=h, target=[x], training_domain=[score], lodo=[1 - score],
                 predictor_params=c, predictor="ridge") for h in "ab" for c, x, score in choices]  # fmt: skip
    table = built(main.TABLE, rows, rule="training_domain")
    assert cell(table, "CLIP-ICM", "minus plain", block=1).value == pytest.approx(20)


def test_gaps_have_a_reason() -> None:
    rows = [one for one in four() if not (one["dataset"] == "two" and one["projection"] == "icm")]
    rows = [one for one in rows if not (one["projection"] == "pca" and one["held_out"] == "b")]
    table = built(main.TABLE, rows)
    icm, pca = line(table, "CLIP-ICM").cells, line(table, "PCA").cells
    assert (icm[1].value, icm[1].note) == (None, "no result rows of this method")
    assert (icm[2].value, icm[2].note) == (None, "no average: nothing for two")
    assert pca[0].note == "no average: nothing for b"


def test_spread_is_over_seeds_and_a_missing_seed_is_noted() -> None:
    values = {0: 0.4, 1: 0.5, 2: 0.6}
    rows = [r for s, x in values.items() for r in method_rows(PLAIN, (x, x), seed=s)]
    rows += [r for s, x in values.items() if s for r in method_rows(PCA, (x, x), seed=s)]
    table = built(main.TABLE, rows)
    plain, pca = line(table, "Plain").cells[0], line(table, "PCA").cells[0]
    assert plain.spread == pytest.approx(10.0)
    assert (pca.seeds, pca.note) == ((1, 2), "2 of 3 seeds")


def test_a_bound_is_marked_and_has_no_bold() -> None:
    table = built(main.TABLE, four(), rule="ceiling")
    cells = [one for _, of_line in table.lines() for one in of_line.cells if one.value is not None]
    assert all(one.bound for one in cells)
    assert not any(one.best for one in cells)
    assert not any(note.startswith("Nothing is bold") for note in table.notes)
    assert table.context["rule"] == "ceiling"


def test_environments_have_their_average_and_the_worst() -> None:
    rows = [*method_rows(PLAIN, (0.4, 0.6, 0.2), "abc"), *method_rows(PCA, (0.4, 0.1, 0.3), "abc")]
    rows += method_rows({**PCA, "placebo": "shuffled"}, (0.3, 0.3, 0.3), "abc")
    table = built(environments.TABLE, rows)
    assert [one.name for one in table.columns] == ["a", "b", "c", "average", "worst environment"]
    assert [one.value for one in line(table, "Plain").cells] == pytest.approx([40, 60, 20, 40, 20])
    assert [one.value for one in line(table, "PCA").cells] == pytest.approx([40, 10, 30, 80 / 3, 10])
    assert len(table.blocks[0].lines) == 3
    shown = built(main.TABLE, rows)
    assert len(shown.blocks[0].lines) == 2  # no placebo in the main table
    assert any(note.startswith("Placebos") for note in shown.notes)


def test_shift_costs_is_in_domain_minus_held_out_accuracy() -> None:
    rows = [*method_rows(PLAIN, (0.4, 0.6)), *method_rows(PCA, (0.4, 0.5))]
    rows += method_rows(PLAIN, (0.7, 0.7), protocol="in_domain", lodo=None)
    table = next(t for t in paper_tables(results_of(rows), Options()) if t.context["protocol"] == "held_out"
                 and t.name.startswith("environments"))  # fmt: skip
    assert cell(table, "Plain", "shift costs").value == pytest.approx(20)
    assert cell(table, "PCA", "shift costs").note == "no rows of protocol in_domain for all that is held out"


def test_short_names_come_from_the_recipe() -> None:
    icm, released = (Method.of_row(row(projection="icm", order=order)) for order in ("largest", "released"))
    assert short_name(icm, {}) == "CLIP-ICM"
    assert short_name(icm, {"CLIP-ICM": "Ours"}) == "Ours"
    assert short_name(released, {"CLIP-ICM (released order) + zero-shot": "Theirs"}) == "Theirs"
    table = built(main.TABLE, four(), names={"one": "I", "A": "alpha", "Plain": "CLIP"})
    assert [one.heading for one in table.columns[:2]] == ["I", "two"]
    assert block(table, "alpha").lines[0].heading == "CLIP"
    assert replace(table.columns[0], short="").heading == "one"
