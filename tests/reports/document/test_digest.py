"""Merged tables of several data sets or backbones: numbers in the right cells, notes without repetition."""

from dataclasses import replace

import pytest

from reports.document.paper import (
    MAX_VALUES,
    Scope,
    chapters,
    of_one_predictor,
    of_one_split,
    over_backbones,
    over_data_sets,
)
from reports.figures import Figure
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables.ablations import PICKED
from tests.reports.figures.rows import plain_and_pca
from tests.reports.synthetic import results_of

SCORE, HELD_OUT = Column("source score", "Source score"), Column("accuracy on what is held out", "Held out")


def ablation(dataset: str, values: dict[str, float], split: str = "full", notes: tuple[str, ...] = ()) -> Table:
    """Return an ablation of a data set under two backbones with two predictors."""
    lines = tuple(Line(name, (Cell(value=1.0), Cell(value=value))) for name, value in values.items())
    blocks = [
        Block(f"{backbone}, CLIP-ICM, {predictor}", lines, backbone)
        for backbone in ("B", "L")
        for predictor in ("zero-shot", "linear probe")
    ]
    context = {"dataset": dataset, "backbone": "B, L", "protocol": "held_out", "test_split": split}
    own = ("Accuracy in %.", "Source score: score of the rule.", *notes)
    return Table(f"ablation_rank-{dataset}", f"{dataset}: ...", (SCORE, HELD_OUT), tuple(blocks), own, context=context)


def test_each_data_set_is_a_column_of_held_out_accuracy() -> None:
    tables = [
        ablation("a", {"16": 3.0, "4": 2.0, PICKED: 3.0}),
        ablation("b", {"4": 5.0, PICKED: 5.0}, notes=("One.", "Two.")),
    ]
    tables = of_one_predictor(tables, ["zero-shot", "linear probe"])
    [made] = over_data_sets(tables, "accuracy by rank")
    assert [column.name for column in made.columns] == ["a", "b"]
    assert [block.title for block in made.blocks] == ["B, CLIP-ICM, zero-shot", "L, CLIP-ICM, zero-shot"]
    numbers = {line.name: [cell.value for cell in line.cells] for line in made.blocks[0].lines}
    assert numbers == {"4": [2.0, 5.0], "16": [3.0, None], PICKED: [3.0, 5.0]}
    assert list(numbers) == ["4", "16", PICKED]
    assert made.notes == ("Accuracy in %.", "b: One. Two.")  # none of a column that is gone
    assert made.caption == "Accuracy by rank (%), everything else chosen by the rule."
    assert made.context["dataset"] == "a, b"
    [alone] = over_data_sets(tables[:1], "accuracy by rank")
    assert alone.columns == tables[0].columns
    assert [block.title for block in alone.blocks] == ["B, CLIP-ICM, zero-shot", "L, CLIP-ICM, zero-shot"]


def test_many_values_are_cut_to_the_ends_and_the_most_common() -> None:
    tables = [
        ablation(name, {str(i): float(i) for i in range(0, 60, step)}) for name, step in (("a", 2), ("b", 3), ("c", 5))
    ]
    [made] = over_data_sets(of_one_predictor(tables, ["zero-shot"]), "accuracy by rank")
    names = [line.name for line in made.blocks[0].lines]
    assert len(names) == MAX_VALUES - 1
    assert (names[0], names[-1]) == ("0", "58")
    assert "30" in names  # the one that all three have
    assert names == sorted(names, key=int)
    assert any("those that stand in most data sets" in note for note in made.notes)


def test_backbones_are_blocks_of_one_table_of_a_data_set() -> None:
    def environments(dataset: str, backbone: str, *columns: str) -> Table:
        line = Line("Plain", tuple(Cell(value=float(i)) for i in range(len(columns))))
        context = {"dataset": dataset, "backbone": backbone, "protocol": "held_out", "test_split": "full"}
        notes = ("Accuracy in %.", f"Of {backbone}.")
        return Table(
            "environments", "...", tuple(map(Column, columns)), (Block("", (line,), backbone),), notes, context=context
        )

    tables = [environments(d, b, *columns) for d in ("a", "b") for b, columns in (("B", ("x", "y")), ("L", ("y", "z")))]
    first, second = over_backbones(tables, "accuracy by environment")
    assert (first.name, second.name) == ("environments-a", "environments-b")
    assert [column.name for column in first.columns] == ["x", "y", "z"]
    assert [[cell.value for cell in line.cells] for _, line in first.lines()] == [[0.0, 1.0, None], [None, 0.0, 1.0]]
    assert [block.title for block in first.blocks] == ["B", "L"]
    assert first.notes[:3] == ("Accuracy in %.", "B: Of B.", "L: Of L.")
    assert second.notes == first.notes


@pytest.mark.parametrize(("splits", "shown"), [(("full", "in_80", "out_20"), "out_20"), (("full", "mine"), "full")])
def test_the_split_of_the_released_code_is_preferred(splits: tuple[str, ...], shown: str) -> None:
    tables = [ablation("a", {"4": 1.0}, split) for split in splits]
    other = replace(tables[0], context={**tables[0].context, "protocol": "imagenet_shift", "test_split": "full"})
    assert [one.context["test_split"] for one in of_one_split([*tables, other])] == [shown, "full"]


def test_tables_are_cut_to_their_first_predictor() -> None:
    [made] = of_one_predictor([ablation("a", {"4": 1.0})], ["ridge", "linear probe", "zero-shot"])
    assert [block.title for block in made.blocks] == ["B, CLIP-ICM, linear probe", "L, CLIP-ICM, linear probe"]
    [whole] = of_one_predictor([ablation("a", {"4": 1.0})], ["ridge"])
    assert len(whole.blocks) == 4


def test_a_paper_has_the_first_figure_of_each_kind() -> None:
    names = ("forest-a", "forest-b", "rank-2-sets", "rank-b", "lambda_rank", "robustness-x", "robustness-y")
    figures = [Figure(name, {}, "", 3.25) for name in names]
    made, _ = chapters(Scope(results_of(plain_and_pca()), {}), [], figures, [])
    found = [one.name for chapter in made for one in chapter.figures]
    assert found == ["forest-a", "lambda_rank", "rank-2-sets", "robustness-x"]
