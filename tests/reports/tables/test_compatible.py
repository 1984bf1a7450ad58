"""Incompatible rows never share a table; tables have distinct names and captions of at most 40 words."""

from typing import Any

import pytest

from benchmark.common.errors import IcmBenchError
from reports.analysis.settings import Options
from reports.tables import ablations, behind, main, paper_tables
from reports.tables.spec import common_rule, groups
from tests.reports.synthetic import results_of
from tests.reports.tables.rows import ICM, PCA, PLAIN, built, method_rows, setting, table_of


def of(**more: Any) -> list[dict[str, Any]]:
    return [r for what, x in ((PLAIN, 0.5), (PCA, 0.6), (ICM, 0.7)) for r in method_rows(what, (x, x), **more)]


@pytest.mark.parametrize(
    ("field", "other"),
    [("protocol", "held_out_pairs"), ("test_split", "in_80"), ("precision", "fp16"),
     ("prompts", '["a sketch of a {}."]'), ("dataset_fingerprint", "other")],
)  # fmt: skip
def test_incompatible_rows_are_refused_and_get_separate_tables(field: str, other: str) -> None:
    both = results_of([*of(**setting()), *of(**{**setting(backbone="B"), field: other})])
    said = "templates .*--where backbone=" if field == "prompts" else f"{field} .*--where {field}="
    for spec in (main.TABLE, behind.TABLE, main.COMPARISONS, ablations.RANK):
        with pytest.raises(IcmBenchError, match=f"different {said}"):
            table_of(spec, both)
    assert [len(group) for group in groups(both)] == [1, 1]
    tables = [table.name for table in paper_tables(both, Options()) if table.name.startswith("main")]
    assert len(tables) == len(set(tables)) == 2


def test_data_sets_may_differ_in_prompts_and_groups() -> None:
    both = [*of(**setting()), *of(**setting("two", prompts='["a sketch of a {}."]'))]
    assert [len(group) for group in groups(results_of(both))] == [2]
    table = built(main.TABLE, both)
    assert [c.name for c in table.columns[:2]] == ["one", "two"]
    assert any(note.startswith("two: Prompts: ") for note in table.details)


def test_prompts_of_one_data_set_separate_groups() -> None:
    other = '["a sketch of a {}."]'
    rows = [*of(**setting()), *of(**setting(prompts=other)), *of(**setting("two"))]
    found = [[(s.dataset, len(s.prompts[0])) for s, _ in group] for group in groups(results_of(rows))]
    assert sorted(found) == [[("one", 16), ("two", 16)], [("one", 17)]]


def test_two_fingerprints_of_a_backbone_never_share_a_table() -> None:
    rows = [*of(**setting()), *of(**{**setting("two"), "backbone_fingerprint": "other"})]
    with pytest.raises(IcmBenchError, match="different backbone_fingerprint of the backbone A"):
        table_of(main.TABLE, results_of(rows))
    assert [len(group) for group in groups(results_of(rows))] == [1, 1]


def test_a_table_has_one_selection_rule() -> None:
    both = results_of([*of(**setting()), *of(**setting("two"), lodo=None)])
    assert common_rule(both) == "training_domain"
    assert common_rule(both[:1]) == "lodo"
    assert common_rule(both, "oracle") == "oracle"
    with pytest.raises(IcmBenchError, match="no selection rule 'best'"):
        common_rule(both, "best")


def test_random_weights_stand_first_in_every_caption_of_at_most_40_words() -> None:
    long = " ".join(f"word{i}" for i in range(60))
    rows = [r for d in ("one", long) for b in "AB" for r in of(**setting(d, b), random_weights=b == "B")]
    tables = paper_tables(results_of(rows), Options())
    random = [table for table in tables if table.context["random_weights"] != "false"]
    assert {"main", "backbones"} <= {table.name for table in random}
    assert all(table.caption.startswith("RANDOM WEIGHTS, NOT A RESULT: ") for table in random)
    assert not any("RANDOM" in table.caption for table in tables if table not in random)
    assert max(len(table.caption.split()) for table in tables) == 40


def test_names_are_distinct_and_one_line_is_no_table() -> None:
    rows = [r for d in ("a_b%", "a b") for b in "AB" for r in of(**setting(d, b))]
    names = [table.name for table in paper_tables(results_of(rows), Options())]
    assert len(names) == len(set(names))
    assert {"main", "backbones", "environments-a_b-A", "environments-a-b-B"} <= set(names)
    assert all(name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names)
    assert paper_tables(results_of(method_rows(PLAIN, (0.5, 0.5))), Options()) == []
    assert paper_tables([], Options()) == []


def test_every_line_has_a_cell_for_every_column_and_every_gap_a_reason() -> None:
    rows = [r for d in ("one", "two") for b in "AB" for r in of(**setting(d, b))]
    rows += [r for p in ("ridge",) for r in of(**setting("one", "A"), predictor=p)]
    tables = paper_tables(results_of([r for r in rows if r["trial_id"] != "pca-None-ridge-a-0--1"]), Options())
    assert len(tables) > 8
    for table in tables:
        for _, one in table.lines():
            assert len(one.cells) == len(table.columns), table.name
            for cell in one.cells:
                assert cell.value is not None or cell.text or cell.note, (table.name, one.name)
                numbers = (cell.value, cell.low, cell.high, cell.error, cell.spread)
                assert all(number == number for number in numbers), "NaN"
