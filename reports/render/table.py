"""The one table that every form is written from: what it says, and nothing of how it is printed. No arithmetic."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

GAP = "—"


@dataclass(frozen=True)
class Cell:
    """One number of a table, or a word where `text` is given.

    Attributes:
        value: accuracy in percent, a difference in points, or any number in the unit of its column; None for a gap.
        low: lower end of its 95 % interval for these environments, in the same unit; None where there is none.
        high: upper end.
        error: what stands behind ±, one standard error, in the same unit; None where there is none.
        spread: standard deviation over splits (seeds), in the same unit; None with one.
        n_images: different test images per seed, averaged over the seeds.
        n_clusters: groups of test images (images where there are no groups) per seed, averaged over the seeds.
        seeds: the seeds behind the number.
        folds: number of folds of each seed, 0 where there are none.
        note: why it is a gap, or rests on less than the others of its table; None where there is nothing to say.
        equals_plain: whether all that was picked is the full space, so that the number is plain prediction's.
        best: whether it is not separated from the best of its block: bold.
        bound: whether labels of what is tested enter it: a bound (†), no result.
        signed: whether it is a difference, printed with its sign.
        decimals: how many are printed.
        text: a word in the place of a number.
        trials: ids of the trials behind it.
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
    """What has a name, and a short one or none."""

    name: str
    short: str

    @property
    def heading(self) -> str:
        """The name as a printed table has it."""
        return self.short or self.name


@dataclass(frozen=True)
class Column(_Headed):
    """What stands above the cells.

    Attributes:
        name: in full.
        short: as a printed table has it.
        group: what stands above several columns side by side; empty where nothing does.
        unit: "%", "points", or what the numbers are; empty for words and plain counts.
        key: what tells the setting of its numbers from the table's others: `dataset`, `class_half`; and `held_out`,
            empty for the average. Empty where its numbers are of no single setting.
    """

    name: str
    short: str = ""
    group: str = ""
    unit: str = "%"
    key: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Line(_Headed):
    """One line: what it is of, in full and as a printed table has it, and a cell for each column.

    Attributes:
        name: in full.
        cells: one for each column.
        short: the name as a printed table has it.
        equals_plain: whether all that was picked is the full space.
        key: `backbone` and `method` of its numbers, by their labels; empty where it is of no single method.
    """

    name: str
    cells: tuple[Cell, ...]
    short: str = ""
    equals_plain: bool = False
    key: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Block:
    """Lines that belong together and are ranked together, such as those of one backbone and predictor.

    Attributes:
        title: what they share; empty where the table has one block alone.
        lines: in order.
        part: by what a table that is too wide or too long is split: the backbone.
    """

    title: str
    lines: tuple[Line, ...]
    part: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        name: of its files: "main".
        caption: at most 40 words, random weights named first.
        columns: without the one that names the lines.
        blocks: in order.
        notes: short sentences below it: protocol, what ± and bold are, what a reader must know.
        details: further sentences on how it was tested, which stand beside it but are not printed.
        corner: what stands above the names of the lines.
        context: what all its numbers share (protocol, split, rule, precision, prompts ...), field -> value.
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
        """Return the table with some of its columns, by their numbers."""
        blocks = []
        for block in self.blocks:
            lines = (replace(line, cells=tuple(line.cells[i] for i in places)) for line in block.lines)
            blocks.append(replace(block, lines=tuple(lines)))
        return replace(self, columns=tuple(self.columns[i] for i in places), blocks=tuple(blocks))
