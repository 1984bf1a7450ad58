"""Bounds, errors, gaps, units and random weights in all formats, from rows. All rows are synthetic."""

import csv
import io
from typing import Any

import pytest

from reports.analysis.settings import Options
from reports.render import FORMATS, latex, markdown
from reports.render.cells import error_text
from reports.render.formats import csv_text, text
from reports.render.table import Cell, Table
from reports.tables import cells, environments, main
from tests.reports.synthetic import only, results_of, row
from tests.reports.tables.rows import built


def table(rows: list[dict[str, Any]], rule: str = "lodo") -> Table:
    return built(main.TABLE, rows, rule=rule)


def lines_of_csv(made: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(made))))


PAIR = [row(target=[0.5]), row(target=[0.7], seed=1), row(projection="pca", target=[0.8])]


def error_of(rows: list[dict[str, Any]]) -> float:
    _, selections = only(rows)
    error = cells.accuracy(selections, next(iter(selections.parts)), "lodo", Options()).cell.error
    assert error is not None
    return error


def test_oracle_numbers_carry_a_dagger_and_are_never_bold() -> None:
    fair = table(PAIR)
    error = f"{error_of(PAIR):.1f}"
    assert f"| 60.0 ± {error} |" in markdown(fair)
    assert "| **80.0 ± 4.0** (2) |" in markdown(fair)
    assert "(2) 1 of 2 seeds." in markdown(fair)
    assert "†" not in markdown(fair)
    for rule in ("oracle", "ceiling"):
        bound = table(PAIR, rule)
        grid = [line for line in markdown(bound).splitlines() if line.startswith("| ")][2:]
        assert [line.split("|")[2].split(" (")[0].strip()[-1] for line in grid] == ["†", "†"]
        assert "**" not in markdown(bound)
        assert r"\textbf" not in latex(bound)
        assert f"Selection rule {rule}: † " in markdown(bound)
        assert {line["bound"] for line in lines_of_csv(bound) if line["value"]} == {"true"}
    assert r"\textbf{80.0" in latex(fair)


def test_an_error_that_rounds_to_nothing_is_no_zero() -> None:
    assert [error_text(Cell(value=50.0, error=x)) for x in (0.04, 0.05, 2.34)] == ["<0.1", "0.1", "2.3"]
    plain, other = row(n_test=4000, correct=[True] * 3999 + [False]), row(projection="pca", target=[1.0])
    assert r"± \<0.1 |" in markdown(table([plain, other]))
    assert "| 100.0 |" in markdown(table([plain, other]))  # no variation, so no error


def test_the_shift_column_is_marked_in_every_form() -> None:
    rows = [row(target=[0.5], projection=p, held_out=h) for p in ("identity", "pca") for h in "ab"]
    within = [row(target=[0.8], protocol="in_domain", lodo=None, held_out=h) for h in "ab"]
    made = built(environments.TABLE, rows, report=results_of(within))
    assert "| Shift costs † (points) |" in markdown(made)
    shift = made.blocks[0].lines[0].cells[-1]
    assert rf"| +30.0 \[+{shift.low:.1f}, +{shift.high:.1f}]† |" in markdown(made)
    assert r"Shift costs" in latex(made)
    assert r"\dag" in latex(made)
    of_plain = [line for line in lines_of_csv(made) if line["line"] == "Zero-shot"][-1]
    assert {key: of_plain[key] for key in ("column", "unit", "value", "bound")} == {
        "column": "shift costs", "unit": "points", "value": "30", "bound": "true"}  # fmt: skip


def test_too_few_images_have_no_plus_minus() -> None:
    few = table([row(target=[0.5], n_test=20), row(projection="pca", target=[0.6], n_test=20)])
    assert "| 50.0 |" in markdown(few)
    assert "fewer than 30 test images" in markdown(few)
    first = lines_of_csv(few)[0]
    names = ("value", "error", "low", "high", "n_images")
    assert tuple(first[name] for name in names) == ("50", "", "", "", "20")


def test_gaps_are_dashes_with_a_footnote_in_every_form() -> None:
    rows = [row(held_out="a"), row(held_out="b"), row(projection="pca", held_out="a")]
    made = built(environments.TABLE, rows)
    assert "| — (1) | — (2) | — (3) |" in markdown(made)
    assert "(1) no result row for this method and held-out environment." in markdown(made)
    assert "(2) no average: nothing for b." in markdown(made)
    assert "no result row for this method" in " ".join(text(made))
    for suffix, form in FORMATS.items():
        assert "no result row for this method" in form(made), suffix
        assert "nan" not in form(made).lower(), suffix


def test_random_weights_are_declared_in_every_form() -> None:
    rows = [row(random_weights=True), row(random_weights=True, projection="pca")]
    banner, label = "RANDOM WEIGHTS, NOT A RESULT: ", "ViT-B-32 (random weights)"
    for rule in ("training_domain", "lodo", "oracle", "ceiling"):
        made = table(rows, rule)
        assert markdown(made).startswith(banner)
        assert rf"\caption{{{banner}" in latex(made)
        assert text(made)[0].startswith(banner)
        for form in (markdown, latex, csv_text):
            assert label in form(made)
    assert {(line["random_weights"], line["backbone"]) for line in lines_of_csv(made)} == {("true", label)}


def test_csv_is_one_line_per_cell_with_seeds_split_and_rule() -> None:
    lines = lines_of_csv(table(PAIR))
    assert len(lines) == 2 * 2  # methods; the data set and what is gained
    wanted = {
        "rule": "lodo", "line": "Zero-shot", "column": "synthetic", "value": "60",
        "plus_minus": "images", "seeds": "0 1", "n_clusters": "100", "n_images": "100", "test_split": "out_20",
        "protocol": "held_out",
    }  # fmt: skip
    assert {key: lines[0][key] for key in wanted} == wanted
    assert float(lines[0]["error"]) == pytest.approx(error_of(PAIR), abs=1e-6)
    assert float(lines[0]["spread"]) == pytest.approx(200**0.5, abs=1e-6)
