"""SYNTHETIC tables: invented numbers that test how tables are printed. No model was run."""

import random
from collections.abc import Sequence

from reports.render.table import Block, Cell, Column, Line, Table

SETS = (
    "PACS",
    "VLCS",
    "Office-Home",
    "Terra Incognita",
    "DomainNet",
    "ImageNet-V2",
    "a_b%",
    "emoji & styles",
    "été λ 中文",
)
METHODS = ("Plain", "PCA", "Random projection", "CLIP-ICM", "CLIP-ICM (released order)", "Shrinkage", "a_b%|<script>")
BACKBONES = ("ViT-B/32", "ViT-L/14@336px")
HOSTILE = ("<script>alert(1)</script>", "a_b%", "=cmd|' /C calc'!A0", "x | y", "two\nlines")
NOTES = (
    "Held-out environment of each data set, chosen by the sources alone (lodo).",
    "± is one standard error over test images. Bold: not separated (Holm) from the best of its block.",
)


def small() -> Table:
    """Return a table with every kind of cell, column and line."""
    columns = (
        Column("art painting", "art", "PACS"),
        Column("sketch", "", "PACS"),
        Column("difference", "", "", "points"),
    )
    plain = (
        Cell(84.71, 84.0, 85.4, 0.52, 0.31, 1200.0, 300.0, (0, 1), 0, trials=("t1", "t2")),
        Cell(100.0, error=0.01, best=True),
        Cell(),
    )
    pca = (
        Cell(None, note="no row: trial 7 failed"),
        Cell(9.96, error=0.4, note="one seed of 2"),
        Cell(-1.25, -2.5, 0.04, signed=True),
    )
    oracle = (
        Cell(91.0, error=0.6, bound=True),
        Cell(84.7, equals_plain=True),
        Cell(0.01, signed=True, equals_plain=True),
    )
    blocks = (
        Block("ViT-B/32, zero-shot", (Line("Plain (a_b%)", plain, "a_b%"), Line("PCA", pca)), "ViT-B/32"),
        Block("ViT-L/14", (Line("Oracle | x", oracle, equals_plain=True),), "ViT-L/14"),
    )
    caption = "RANDOM WEIGHTS, NOT A RESULT: accuracy in % of <two> sets."
    return Table(
        "small",
        caption,
        columns,
        blocks,
        ("± is one standard error.",),
        context={"rule": "lodo", "protocol": "held_out"},
    )


def hostile() -> Table:
    """Return a table with hostile names everywhere."""
    columns = tuple(Column(name, "", name, name) for name in HOSTILE)
    lines = tuple(Line(name, tuple(Cell(text=other, note=other) for other in HOSTILE)) for name in HOSTILE)
    blocks = tuple(Block(name, lines, name) for name in HOSTILE)
    context = {name: name for name in HOSTILE}
    return Table("hostile", " ".join(HOSTILE), columns, blocks, HOSTILE, HOSTILE, HOSTILE[0], context)


def main(
    sets: Sequence[str] = SETS[:5],
    methods: Sequence[str] = METHODS,
    backbones: Sequence[str] = BACKBONES,
    *,
    name: str = "main",
    spreads: bool = True,
    grouped: int = 0,
    marks: bool = True,
) -> Table:
    """Return a table of methods x data sets with an average and a difference, a block for each backbone and predictor.

    Args:
        sets: names of columns.
        methods: names of lines.
        backbones: each has two blocks.
        name: name of the table.
        spreads: whether numbers have errors and intervals.
        grouped: number of columns of each set, under its name; 0 for a single column without a group.
        marks: whether there are gaps, bounds and numbers equal to plain prediction's.
    """
    draw = random.Random(7)
    columns = [
        Column(f"env {i}", "", one) if grouped else Column(one, one[:9]) for one in sets for i in range(max(grouped, 1))
    ]
    columns += [Column("average"), Column("difference", "diff.", "", "points")]

    def cell(place: int, line: int) -> Cell:
        if marks and (place + 3 * line) % 17 == 5:
            return Cell(note=f"no row: trial {place % 2} failed")
        value = draw.uniform(60, 100) if draw.random() < 0.95 else 100.0
        error = draw.uniform(0.01, 2) if spreads else None
        if place == len(columns) - 1:
            value = draw.uniform(-3, 12)
            return Cell(value, value - 1.2, value + 1.2, signed=True, equals_plain=marks and line == 4)
        note = "rests on 2 of 3 seeds" if marks and (place, line) == (0, 2) else None
        same = marks and line == 4
        bound = marks and line == 6
        low, high = (value - 1, value + 1) if spreads else (None, None)
        return Cell(value, low, high, error, best=line in (3, 5), equals_plain=same, bound=bound, note=note)

    blocks = tuple(
        Block(
            f"{backbone}, {predictor}",
            tuple(
                Line(method, tuple(cell(i, k) for i in range(len(columns))), equals_plain=marks and k == 4)
                for k, method in enumerate(methods)
            ),
            backbone,
        )
        for backbone in backbones
        for predictor in ("zero-shot", "linear probe")
    )
    caption = f"Accuracy in % on {len(sets)} data sets, of methods that predict in a subspace, and of plain prediction."
    return Table(name, caption, tuple(columns), blocks, NOTES)
