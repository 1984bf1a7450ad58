"""The numbers of the main table, against hand-computed ones. All rows are synthetic."""

from math import sqrt
from typing import Any

import pytest

from reports.chosen import Selections, hyperparameters, rule_for
from reports.settings import by_setting, suffixes
from reports.tables import Table, main_table
from tests.reports.synthetic import frame, row


def table(rows: list[dict[str, Any]], rule: str = "lodo") -> Table:
    [(setting, part)] = by_setting(frame(rows))
    return main_table(setting, Selections(part), rule)


def test_means_and_standard_errors_over_seeds() -> None:
    cells = [("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.6), ("b", 1, 0.6)]
    found = table([row(held_out=h, seed=s, target=[x]) for h, s, x in cells])
    a, b, average = found.lines[0].cells
    assert found.columns == ("a", "b", "average")
    assert (a.mean, b.mean, average.mean) == pytest.approx((60, 60, 60))
    # a: 50 and 70, deviation sqrt(200); average: 55 and 65, deviation sqrt(50); divided by sqrt(2)
    assert (a.stderr, b.stderr, average.stderr) == pytest.approx((sqrt(100), 0, sqrt(25)))
    assert (a.n_test, average.n_test, average.seeds) == (10, 20, (0, 1))


def test_each_rule_picks_by_its_own_score() -> None:
    rows = [
        row(
            projection="pca",
            target=[0.9, 0.5, 0.6],
            training_domain=[0.1, 0.8, 0.2],
            lodo=[0.1, 0.2, 0.7],
        )
    ]
    by_rule = {r: table(rows, r).lines[0].cells[0].mean for r in ("training_domain", "lodo", "oracle")}
    assert by_rule == pytest.approx({"training_domain": 50, "lodo": 60, "oracle": 90})


def test_rules_agree_where_there_is_nothing_to_choose() -> None:
    rows = [row(target=[0.4])]
    assert {table(rows, r).lines[0].cells[0].mean for r in ("training_domain", "lodo", "oracle")} == {40.0}


def test_best_average_of_each_predictor_is_marked_but_never_by_oracle() -> None:
    rows = [
        row(target=[0.5]),
        row(projection="pca", target=[0.6]),
        row(predictor="linear_probe", target=[0.8]),
        row(predictor="linear_probe", projection="pca", target=[0.80004]),
    ]
    marked = {line.method.label: line.cells[-1].best for line in table(rows).lines}
    assert marked == {
        "Zero-shot": False,
        "PCA + zero-shot": True,
        "Linear probe": True,  # equal at the printed precision
        "PCA + linear probe": True,
    }
    assert not any(cell.best for line in table(rows, "oracle").lines for cell in line.cells)


def test_gaps_say_why() -> None:
    rows = [
        row(held_out="a"),
        row(held_out="b"),
        row(projection="pca", held_out="a", lodo=None),
        row(held_out="a", seed=1),
    ]
    plain, pca = table(rows).lines
    assert plain.cells[1].note == "1 of 2 seeds"
    assert "lodo is undefined" in str(pca.cells[0].note)
    assert "no result row" in str(pca.cells[1].note)
    assert pca.cells[2].mean is None
    assert "a, b" in str(pca.cells[2].note)


def test_average_uses_only_seeds_with_every_environment() -> None:
    rows = [
        row(held_out="a", seed=0, target=[0.2]),
        row(held_out="b", seed=0, target=[0.4]),
        row(held_out="a", seed=1, target=[1.0]),
    ]
    average = table(rows).lines[0].cells[-1]
    assert average.mean == pytest.approx(30)
    assert (average.seeds, average.note) == ((0,), "1 of 2 seeds")


def test_caption_says_what_the_numbers_are() -> None:
    rows = [
        row(held_out=h, seed=s, n_test=n, grouped=True, test_split="full", lambda_=x, intervention_set="all")
        for h, s, n, x in [("a", 0, 10, 1.0), ("a", 1, 11, 10.0)]
    ]
    caption = table(rows).caption
    for words in (
        "Selection rule lodo: ", "synthetic", "ViT-B-32, fp32", "Protocol held_out",
        "full: all images of the held-out environment", "Seeds: 0, 1", "standard error over seeds", "a 10.5",
        "Training images: 1,000", '"a photo of a {}."', "measured on: full", "Split by group", "WARNING",
        "lambda 1, 10", "intervention sets all", "normalize none",
    ):  # fmt: skip
        assert words in caption
    safe = table([row(grouped=True, test_split="out_20")]).caption
    assert "WARNING" not in safe
    assert "no standard error" in safe


def test_rows_that_differ_in_protocol_never_share_a_table() -> None:
    rows = frame([row(), row(test_split="full"), row(precision="fp16"), row(prompts='["{}"]')])
    parts = by_setting(rows)
    assert [len(part) for _, part in parts] == [1, 1, 1, 1]
    assert suffixes([s for s, _ in parts]) == [
        "-synthetic-ViT-B-32-full",
        "-synthetic-ViT-B-32-out_20",
        "-synthetic-ViT-B-32-out_20-2",
        "-synthetic-ViT-B-32-out_20-3",
    ]


def test_hyperparameters_list_what_was_chosen_and_skip_methods_without_a_choice() -> None:
    icm: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all"}
    rows = [
        row(),
        row(seed=1),
        row(**icm, lambda_=1.0, target=[0.1, 0.9, 0.2]),
        row(**icm, lambda_=10.0, target=[0.1, 0.3, 0.2]),
        row(**icm, lambda_=1.0, target=[0.1, 0.3, 0.2], seed=1),
        row(
            **icm,
            lambda_=10.0,
            target=[0.1, 0.3, 0.9],
            seed=1,
            predictor_params='{"c": 1}',
            projection_params='{"k": 2}',
        ),
    ]
    lines = hyperparameters(Selections(frame(rows)))
    assert [line[1] for line in lines] == ["training_domain", "lodo", "oracle †"]
    assert lines[0][2:] == ["art", "0 1", "3", "2, 4", "1, 10", "all", "none", '{}, {"c": 1}', '{}, {"k": 2}']


def test_findings_rule_is_lodo_only_if_every_row_has_it() -> None:
    assert rule_for(frame([row()])) == "lodo"
    assert rule_for(frame([row(), row(lodo=None)])) == "training_domain"
