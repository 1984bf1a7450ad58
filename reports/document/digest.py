"""Tables of a report as a paper has room for them: one of all data sets, or of all backbones, in the place of many."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.analysis.against import SPLIT_ORDER
from reports.analysis.settings import BANNER
from reports.figures import Figure
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables.ablations import PICKED

MAX_VALUES = 9  # lines of a block over data sets, with that of what the rule picks
HELD_OUT = "accuracy on what is held out"  # the column of which a table over data sets has one for each
_NOT_THERE = "nothing of it"
_FEWER = (
    f"Of more than {MAX_VALUES} values of a method those that stand in most data sets are shown, with the lowest and "
    "the highest."
)


@dataclass(frozen=True)
class _Part:
    """A table that becomes a part of another: by what its numbers differ from those of the others, and its blocks."""

    label: str
    table: Table
    blocks: tuple[Block, ...]


def of_one_split(tables: Iterable[Table]) -> list[Table]:
    """Return the tables of one split for each protocol: the first of the released code's that is there."""
    tables = list(tables)
    best = {_protocol(one): min(map(_split, [t for t in tables if _protocol(t) == _protocol(one)])) for one in tables}
    return [one for one in tables if _split(one) == best[_protocol(one)]]


def of_one_predictor(tables: Iterable[Table], predictors: Sequence[str]) -> list[Table]:
    """Return tables with the blocks of the first predictor that each has any of."""
    return [replace(one, blocks=_of_first(one, predictors)) for one in tables]


def over_backbones(tables: Sequence[Table], what: str, predictors: Sequence[str]) -> list[Table]:
    """Return a table for each data set, with a block for each backbone; a table that stands alone as it is.

    Args:
        tables: of one kind and of one split for each protocol, each of one data set and backbone.
        what: the kind shows, in words.
        predictors: as titles of blocks end with them; of several, the first that a table has is shown.
    """
    made = []
    grouped: dict[tuple[str, str], list[Table]] = {}
    for one in tables:
        grouped.setdefault((_protocol(one), one.context.get("dataset", "")), []).append(one)
    for alike in grouped.values():
        parts = [_Part(one.context.get("backbone", ""), one, _of_first(one, predictors)) for one in alike]
        if len(parts) == 1:
            made.append(replace(alike[0], blocks=parts[0].blocks))
            continue
        columns = list({column.name: column for one in alike for column in one.columns}.values())
        blocks = [
            replace(block, title=", ".join(filter(None, _key(block))), lines=_placed(block, part.table, columns))
            for part in parts
            for block in part.blocks
        ]
        dataset = alike[0].context.get("dataset", "")
        made.append(_together(f"{kind_of(alike[0])}-{dataset}", f"{dataset}: {what} (%).", parts, columns, blocks))
    names = _numbered([one.name for one in made], "{}-{}")
    return [replace(one, name=name) for one, name in zip(made, names, strict=True)]


def over_data_sets(tables: Sequence[Table], what: str, predictors: Sequence[str]) -> list[Table]:
    """Return one table, with a column for each data set; of one data set its table as it is.

    Args:
        tables: ablations of one kind and of one split for each protocol, each of one data set.
        what: the kind shows, in words.
        predictors: as titles of blocks end with them; of several, the first that a table has is shown.
    """
    if len(tables) < 2:
        return of_one_predictor(tables, predictors)
    parts = [_Part(label, one, _of_first(one, predictors)) for label, one in zip(_labels(tables), tables, strict=True)]
    keys = list(dict.fromkeys(_key(block) for part in parts for block in part.blocks))
    backbones = list(dict.fromkeys(backbone for backbone, _ in keys))
    keys.sort(key=lambda key: backbones.index(key[0]))
    fewer = False
    blocks = []
    for key in keys:
        there = [next((block for block in part.blocks if _key(block) == key), None) for part in parts]
        names = list(dict.fromkeys(line.name for block in there if block for line in block.lines))
        shown = _shown(names, there)
        fewer = fewer or len(shown) < len(names)
        lines = tuple(_across(name, there, parts) for name in shown)
        title = ", ".join(filter(None, key if len(backbones) > 1 else key[1:]))
        blocks.append(Block(title, lines, key[0]))
    columns = [Column(part.label) for part in parts]
    caption = f"{what[:1].upper()}{what[1:]} (%), everything else chosen by the rule."
    return [_together(kind_of(tables[0]), caption, parts, columns, blocks, [_FEWER] if fewer else [])]


def _together(
    name: str, caption: str, parts: Sequence[_Part], columns: Sequence[Column], blocks: Sequence[Block],
    own: Sequence[str] = (),
) -> Table:  # fmt: skip
    tables = [part.table for part in parts]
    context = {
        field: ", ".join(dict.fromkeys(one.context.get(field, "") for one in tables)) for field in tables[0].context
    }
    random = any("true" in one.context.get("random_weights", "") for one in tables)
    notes = _notes({part.label: part.table.notes for part in parts}, _gone(tables, columns, blocks))
    return Table(
        name, f"{f'{BANNER}: ' if random else ''}{caption}", tuple(columns), tuple(blocks), (*own, *notes), (),
        tables[0].corner, context,
    )  # fmt: skip


def _gone(tables: Sequence[Table], columns: Sequence[Column], blocks: Sequence[Block]) -> list[str]:
    """Return how notes begin that speak of columns that are gone, or of intervals where none is printed."""
    headings = {column.heading for one in tables for column in one.columns} - {one.heading for one in columns}
    spans = any(cell.signed and cell.low is not None for block in blocks for line in block.lines for cell in line.cells)
    return [*(f"{heading}: " for heading in headings), *([] if spans else ["In brackets: 95 %"])]


def _notes(notes: Mapping[str, Sequence[str]], gone: Sequence[str]) -> list[str]:
    """Return each note once: those that are said of all, then those of some, behind the names of these."""
    owners: dict[str, list[str]] = {}
    for label, own in notes.items():
        for note in own:
            if not note.startswith(tuple(gone)):
                owners.setdefault(note, []).append(label)
    of_some: dict[str, list[str]] = {}
    for note, own in owners.items():
        of_some.setdefault("" if len(own) == len(notes) else f"{', '.join(own)}: ", []).append(note)
    shared = of_some.pop("", [])
    return [*shared, *(f"{words}{' '.join(own)}" for words, own in of_some.items())]


def _shown(names: Sequence[str], blocks: Sequence[Block | None]) -> list[str]:
    """Return the names of lines, numbers ascending, what the rule picks last: those most blocks have, with the ends."""
    values = [name for name in names if name != PICKED]
    if all(_number(name) is not None for name in values):
        values.sort(key=lambda name: _number(name) or 0.0)
    if len(values) > MAX_VALUES - 1:
        counts = {n: sum(any(line.name == n for line in b.lines) for b in blocks if b) for n in values}
        inner = sorted(values[1:-1], key=lambda name: -counts[name])[: MAX_VALUES - 3]
        values = [name for name in values if name in (values[0], *inner, values[-1])]
    return [*values, *([PICKED] if PICKED in names else [])]


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


def _across(name: str, blocks: Sequence[Block | None], parts: Sequence[_Part]) -> Line:
    """Return a line with the accuracy of each data set."""
    found = [next((line for line in block.lines if line.name == name), None) if block else None for block in blocks]
    cells = []
    for line, part in zip(found, parts, strict=True):
        places = [i for i, column in enumerate(part.table.columns) if column.name == HELD_OUT]
        cells.append(line.cells[places[0]] if line and places else Cell(note=_NOT_THERE))
    known = [line for line in found if line]
    return Line(name, tuple(cells), known[0].short, all(line.equals_plain for line in known))


def _placed(block: Block, table: Table, columns: Sequence[Column]) -> tuple[Line, ...]:
    """Return the lines of a block with a cell for each of other columns."""
    at = {column.name: i for i, column in enumerate(table.columns)}
    return tuple(
        replace(
            line, cells=tuple(line.cells[at[c.name]] if c.name in at else Cell(note=_NOT_THERE) for c in columns)
        )
        for line in block.lines
    )  # fmt: skip


def _of_first(table: Table, predictors: Sequence[str]) -> tuple[Block, ...]:
    """Return the blocks of the first predictor that a table has any of; all where their titles name none."""

    def of(predictor: str) -> list[Block]:
        return [b for b in table.blocks if b.title == predictor or b.title.endswith(f", {predictor}")]

    return tuple(next((found for predictor in predictors if (found := of(predictor))), table.blocks))


def _key(block: Block) -> tuple[str, str]:
    """Return the backbone of a block, and what else its title says."""
    return block.part, block.title.removeprefix(block.part).removeprefix(", ")


def _labels(tables: Sequence[Table]) -> list[str]:
    """Return what columns are called: the data set, with the protocol, or a number, where one comes more than once."""
    names = [one.context.get("dataset", "") for one in tables]
    names = [n if names.count(n) == 1 else f"{n}, {_protocol(t)}" for n, t in zip(names, tables, strict=True)]
    return _numbered(names, "{} ({})")


def _numbered(names: Sequence[str], form: str) -> list[str]:
    """Return names of which those that come again have a number."""
    return [n if names.count(n) == 1 else form.format(n, names[: i + 1].count(n)) for i, n in enumerate(names)]


def kind_of(one: Table | Figure) -> str:
    """Return the name of a table or figure without what tells several of a kind apart."""
    return one.name.partition("-")[0]


def _protocol(table: Table) -> str:
    return table.context.get("protocol", "")


def _split(table: Table) -> int:
    split = table.context.get("test_split", "")
    return SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)
