"""Forms of the main table: dagger, bold, gaps, banner, escaping. All rows are synthetic."""

import csv
import io
import re
from typing import Any

import pytest

from reports.captions import protocol_words
from reports.chosen import Selections
from reports.options import Options
from reports.render import comma_separated, error_text, latex, latex_escape, markdown, plain_text
from reports.settings import by_setting
from reports.tables import Table, main_tables
from tests.reports.synthetic import TESTED, frame, row


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    [(setting, part)] = by_setting(frame(rows))
    return main_tables(setting, Selections(part, TESTED), Options())


def terminal(rows: list[dict[str, Any]]) -> str:
    [(setting, part)] = by_setting(frame(rows))
    selections = Selections(part, TESTED)
    words = setting.banner + protocol_words(setting, selections, Options())
    return plain_text(main_tables(setting, selections, Options()), words)


PAIR = [row(target=[0.5]), row(target=[0.7], seed=1), row(projection="pca", target=[0.8])]


def error_of(rows: list[dict[str, Any]]) -> float:
    found = tables(rows)[0].lines[0].cells[0].stderr
    assert found is not None
    return found


def test_oracle_numbers_carry_a_dagger_and_are_never_bold() -> None:
    fair, _, oracle, ceiling = tables(PAIR)
    error = f"{error_of(PAIR):.1f}"
    assert f"60.0 ± {error} |" in markdown(fair)
    assert "**80.0 ± 4.0** (a)" in markdown(fair)
    for bound in (oracle, ceiling):
        grid = [line for line in markdown(bound).splitlines() if line.startswith("| ")][2:]
        assert all(cell.strip().split(" (")[0].endswith("†") for line in grid for cell in line.split("|")[2:-1])
        assert "**" not in markdown(bound)
    assert r"\textbf{80.0 $\pm$ 4.0}" in latex(fair)
    assert r"\textbf" not in latex(oracle)
    assert rf"60.0 $\pm$ {error}\dag{{}}" in latex(oracle)


def test_an_error_that_rounds_to_nothing_is_no_zero() -> None:
    assert (error_text(0.04), error_text(0.05), error_text(2.34)) == ("<0.1", "0.1", "2.3")
    nearly = tables([row(n_test=4000, correct=[True] * 3999 + [False])])[0]
    assert "± <0.1 |" in markdown(nearly)
    assert r"$\pm$ \textless{}0.1" in latex(nearly)
    assert "| 100.0 | 100.0 |" in markdown(tables([row(target=[1.0])])[0])  # nothing varies, nothing is said


def test_the_shift_column_is_marked_in_every_form() -> None:
    rows = [row(target=[0.5]), row(protocol="in_domain", target=[0.8], lodo=None)]
    (setting, held_out), (_, in_domain) = ((s, Selections(part, TESTED)) for s, part in by_setting(frame(rows)))
    [lodo] = [t for t in main_tables(setting, held_out, Options(), in_domain) if t.rule == "lodo"]
    assert "| average | shift costs † |" in markdown(lodo)
    assert "| +30.0 ± 4.6† |" in markdown(lodo)
    assert r"shift costs \dag{}" in latex(lodo)
    last = list(csv.DictReader(io.StringIO(comma_separated([lodo]))))[-1]
    wanted = {"held_out": "shift costs", "unit": "points", "mean": "30.0000", "looks_at_target": "True"}
    assert {key: last[key] for key in wanted} == wanted


def test_too_few_images_have_no_plus_minus() -> None:
    few = tables([row(target=[0.5], n_test=20)])[0]
    assert "| 50.0 |" in markdown(few)
    assert "fewer than 30 test images" in markdown(few)
    line = next(csv.DictReader(io.StringIO(comma_separated([few]))))
    assert (line["mean"], line["stderr"], line["n_images"], line["source_accuracy"]) == (
        "50.0000",
        "",
        "20.0",
        "50.0000",
    )


def test_gaps_are_dashes_with_a_footnote_in_every_form() -> None:
    rows = [row(held_out="a"), row(held_out="b"), row(projection="pca", held_out="a")]
    lodo = tables(rows)[1]
    assert "| — (a) | — (b) |" in markdown(lodo)
    assert "(a) no result row for this method and held-out environment." in markdown(lodo)
    assert "--- (a) & --- (b)" in latex(lodo)
    assert "—(a)" in terminal(rows)
    assert "no result row" in comma_separated([lodo])


def test_random_weights_are_declared_in_every_form() -> None:
    rows = [row(random_weights=True)]
    banner = "RANDOM WEIGHTS, NOT A RESULT: "
    label = "ViT-B-32 (random weights)"
    for table in tables(rows):
        assert markdown(table).startswith(banner)
        assert rf"\caption{{{banner}" in latex(table)
        assert label in markdown(table)
        assert label in latex(table)
    assert terminal(rows).startswith(banner)
    assert label in terminal(rows)
    [line, *_] = csv.DictReader(io.StringIO(comma_separated(tables(rows))))
    assert (line["random_weights"], line["backbone"]) == ("True", label)


def test_csv_is_one_line_per_cell_with_n_seeds_split_and_rule() -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated(tables(PAIR)))))
    assert len(lines) == 4 * 2 * 2  # rules, methods, art and average
    first = lines[0]
    wanted = {
        "rule": "training_domain", "method": "Zero-shot", "held_out": "art", "mean": "60.0000",
        "stderr": f"{error_of(PAIR):.4f}", "plus_minus": "images", "n_seeds": "2", "seeds": "0 1",
        "n_units": "100.0", "n_images": "100.0", "test_split": "out_20", "labels_fit": "0", "labels_choice": "200",
    }  # fmt: skip
    assert {key: first[key] for key in wanted} == wanted
    assert {line["rule"] for line in lines if line["looks_at_target"] == "True"} == {"oracle", "ceiling"}


def test_latex_escapes_names_and_is_balanced() -> None:
    rows = [row(held_out="100%_a&b", projection="my_own", predictor="ridge", dataset="x_#1$~^\\{}")]
    text = latex(tables(rows)[0])
    assert r"100\%\_a\&b" in text
    assert r"my\_own + ridge probe" in text
    assert latex_escape("x_#1$~^\\{}") == r"x\_\#1\$\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}"
    bare = re.sub(r"\\[\\{}%&#_$]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[_#^~]", bare)
    assert [line for line in bare.splitlines() if "%" in line] == [r"% needs \usepackage{booktabs}"]
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}


@pytest.mark.parametrize("environments", [1, 4, 6])
def test_terminal_table_is_aligned_and_fits(environments: int) -> None:
    names = ["clipart", "infograph", "painting", "quickdraw", "real", "a_very_long_environment_name"]
    rows = [
        row(held_out=h, seed=s, projection=p, order=o, target=[0.5 + s / 10])
        for h in names[:environments]
        for s in (0, 1)
        for p, o in (("identity", None), ("icm", "released"), ("icm", "largest"))
    ]
    text = terminal(rows)
    assert max(map(len, text.splitlines())) <= 120
    lines = [line for line in text.splitlines() if line.startswith("  ") and "±" in line]
    ends = [[m.end() for m in re.finditer(r"±\d+\.\d†?", line)] for line in lines]
    for rule in range(4):
        assert len({tuple(e) for e in ends[3 * rule : 3 * rule + 3]}) == 1
