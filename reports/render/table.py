"""Content of tables, whatever the format: cells, columns, lines, blocks. A gap is a cell without a number or text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

GAP = "—"
MAX_WORDS = 40  # of a caption: longer ones are refused by LaTeX output and shortened in captions


@dataclass(frozen=True)
class Cell:
    """One number of a table, or a text. A new field also belongs in `_OF_CELL` of reports/render/formats.py.

    Attributes:
        value: accuracy in percent, difference in points, or number in the unit of its column; None for a gap.
        low: lower end of the 95 % interval for the tested environments, in the same unit; None without interval.
        high: upper end of the interval.
        error: one standard error, printed after ±, in the same unit; None if unknown.
        spread: standard deviation over splits (seeds), in the same unit; None with one seed.
        n_images: distinct test images per seed, mean over seeds.
        n_clusters: groups of test images (or images, without groups) per seed, mean over seeds.
        seeds: seeds over which the number is averaged.
        folds: number of folds per seed; 0 without folds.
        note: reason of a gap, or of a smaller sample than in other cells; None without a note.
        equals_plain: whether all picks keep the full space, so that the number equals plain prediction's.
        best: whether the number is the best of its block, or tied with the best. Such numbers are printed bold.
        bound: whether target labels enter the number, which is then a bound (†) and not a result.
        signed: whether the number is a difference, printed with its sign.
        decimals: number of printed decimals.
        text: text printed instead of a number.
        trials: ids of the trials from which the number comes.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    spread: float | None = None
    n_images: float | None = None
    n_clusters: float | None = None
    seeds: tuple[int, ...] = ()
    folds: int = 0
    note: str | None = None
    equals_plain: bool = False
    best: bool = False
    bound: bool = False
    signed: bool = False
    decimals: int = 1
    text: str | None = None
    trials: tuple[str, ...] = ()


class _Headed:
    """Base of columns and lines: a name and an optional short name."""

    name: str
    short: str

    @property
    def heading(self) -> str:
        """The name in printed tables."""
        return self.short or self.name


@dataclass(frozen=True)
class Column(_Headed):
    """A column of a table.

    Attributes:
        name: full name.
        short: name in printed tables; empty (default) for the full name.
        group: heading shared with neighbouring columns; empty for none.
        unit: "%", "points", or another unit; empty for texts and counts.
        key: fields that identify the setting of the column's numbers: `dataset`, `class_half`, and `held_out` ("" for
            the average). Empty if the numbers belong to no single setting.
    """

    name: str
    short: str = ""
    group: str = ""
    unit: str = "%"
    key: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Line(_Headed):
    """A line of a table.

    Attributes:
        name: full name.
        cells: one cell for each column.
        short: name in printed tables; empty (default) for the full name.
        equals_plain: whether all picks keep the full space.
        key: labels of `backbone` and `method`; empty if the line belongs to no single method.
    """

    name: str
    cells: tuple[Cell, ...]
    short: str = ""
    equals_plain: bool = False
    key: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Block:
    """Lines that are ranked together, such as the methods of one backbone and predictor.

    Attributes:
        title: common part of the lines; empty if the table has a single block.
        lines: lines, in order.
        part: short name of the backbone, by which a table that is too wide or too long is split.
    """

    title: str
    lines: tuple[Line, ...]
    part: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        name: name of its files: "main".
        caption: at most 40 words, starting with the warning of random weights.
        columns: columns, without the names of the lines.
        blocks: blocks, in order.
        notes: short sentences below the table: protocol, meaning of ± and bold.
        details: further sentences on how the numbers were measured; they are not in printed tables.
        corner: heading of the names of the lines.
        context: field -> value shared by all numbers (protocol, split, rule, precision, prompts, ...).
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    corner: str = "Method"
    context: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[Block, Line]]:
        """Yield every line with its block."""
        yield from ((block, line) for block in self.blocks for line in block.lines)

    def with_columns(self, places: Sequence[int]) -> "Table":
        """Return the table with the columns at the given indices."""
        blocks = []
        for block in self.blocks:
            lines = (replace(line, cells=tuple(line.cells[i] for i in places)) for line in block.lines)
            blocks.append(replace(block, lines=tuple(lines)))
        return replace(self, columns=tuple(self.columns[i] for i in places), blocks=tuple(blocks))
