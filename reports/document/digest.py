"""Tables of a report as a paper has room for them: one of all data sets, or of all backbones, in the place of many."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from reports.analysis.settings import BANNER, split_place
from reports.figures import Figure
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables.ablations import PICKED
from reports.text.headline import capital

MAX_VALUES = 9  # lines of a block over data sets, with that of what the rule picks
HELD_OUT = "accuracy on what is held out"  # the column of which a table over data sets has one for each
_FEWER = (
    f"Of more than {MAX_VALUES} values of a method those that stand in most data sets are shown, with the lowest and "
    "the highest."
)


def of_one_split(tables: Iterable[Table]) -> list[Table]:
    """Return the tables of one split for each protocol: the first of the released code's that is there."""
    ranked = [(_of(one, "protocol"), split_place(_of(one, "test_split")), one) for one in tables]
    best = {protocol: min(place for name, place, _ in ranked if name == protocol) for protocol, _, _ in ranked}
    return [one for protocol, place, one in ranked if place == best[protocol]]


def of_one_predictor(tables: Iterable[Table], predictors: Sequence[str]) -> list[Table]:
    """Return tables with the blocks of the first predictor that each has any of; all where titles name none.

    Args:
        tables: of any kind.
        predictors: as titles of blocks end with them.
    """
    made = []
    for one in tables:
        found = ([b for b in one.blocks if b.title == name or b.title.endswith(f", {name}")] for name in predictors)
        made.append(replace(one, blocks=tuple(next(filter(None, found), one.blocks))))
    return made


def over_backbones(tables: Iterable[Table], what: str) -> list[Table]:
    """Return a table for each data set, with a block for each backbone; a table that stands alone as it is.

    Args:
        tables: of one kind and predictor and of one split for each protocol, each of one data set and backbone.
        what: the kind shows, in words.
    """
    grouped: dict[tuple[str, str], list[Table]] = {}
    for one in tables:
        grouped.setdefault((_of(one, "protocol"), _of(one, "dataset")), []).append(one)
    made = []
    for (_, dataset), alike in grouped.items():
        columns = list({column.name: column for one in alike for column in one.columns}.values())
        blocks = []
        for one in alike:
            for block in one.blocks:
                lines = [replace(line, cells=tuple(_cell(one, line, c.name) for c in columns)) for line in block.lines]
                blocks.append(Block(", ".join(filter(None, _key(block))), tuple(lines), block.part))
        name, caption = f"{kind_of(alike[0])}-{dataset}", f"{dataset}: {what} (%)."
        whole, labels = Table(name, caption, tuple(columns), tuple(blocks)), [_of(one, "backbone") for one in alike]
        made.append(_together(whole, labels, alike) if len(alike) > 1 else alike[0])
    names = _numbered([one.name for one in made], "{}-{}")
    return [replace(one, name=name) for one, name in zip(made, names, strict=True)]


def over_data_sets(tables: Sequence[Table], what: str) -> list[Table]:
    """Return one table, with a column for each data set; of one data set its table as it is.

    Args:
        tables: ablations of one kind and predictor and of one split for each protocol, each of one data set.
        what: the kind shows, in words.
    """
    if len(tables) < 2:
        return [*tables]
    labels = [_of(one, "dataset") for one in tables]
    labels = [n if labels.count(n) == 1 else f"{n}, {_of(t, 'protocol')}" for n, t in zip(labels, tables, strict=True)]
    labels = _numbered(labels, "{} ({})")
    every = [{_key(block): {line.name: line for line in block.lines} for block in one.blocks} for one in tables]
    keys = list(dict.fromkeys(key for of_set in every for key in of_set))
    backbones = list(dict.fromkeys(backbone for backbone, _ in keys))
    blocks, fewer = [], False
    for key in sorted(keys, key=lambda key: backbones.index(key[0])):
        of_sets = [of_set.get(key, {}) for of_set in every]
        times = Counter(name for of_set in of_sets for name in of_set)
        shown = _shown(times)
        fewer = fewer or len(shown) < len(times)
        lines = []
        for name in shown:
            cells = tuple(_cell(one, of_set.get(name), HELD_OUT) for one, of_set in zip(tables, of_sets, strict=True))
            known = [of_set[name] for of_set in of_sets if name in of_set]
            lines.append(Line(name, cells, known[0].short, all(line.equals_plain for line in known)))
        title = ", ".join(filter(None, key if len(backbones) > 1 else key[1:]))
        blocks.append(Block(title, tuple(lines), key[0]))
    caption = f"{capital(what)} (%), everything else chosen by the rule."
    columns = tuple(Column(label) for label in labels)
    made = _together(Table(kind_of(tables[0]), caption, columns, tuple(blocks)), labels, tables)
    return [replace(made, notes=(*([_FEWER] if fewer else []), *made.notes))]


def kind_of(one: Table | Figure) -> str:
    """Return the name of a table or figure without what tells several of a kind apart."""
    return one.name.partition("-")[0]


def _together(made: Table, labels: Sequence[str], tables: Sequence[Table]) -> Table:
    """Return one table in the place of several, with each note once: those of all, then, behind labels, of some."""
    context = {field: ", ".join(dict.fromkeys(_of(one, field) for one in tables)) for field in tables[0].context}
    headings = {column.heading for one in tables for column in one.columns} - {one.heading for one in made.columns}
    spans = any(cell.signed and cell.low is not None for _, line in made.lines() for cell in line.cells)
    # Of columns that are gone, and of intervals where none is printed, notes say nothing.
    gone = (*(f"{heading}: " for heading in headings), *(() if spans else ("In brackets: 95 %",)))
    notes = {label: one.notes for label, one in zip(labels, tables, strict=True)}
    owners: dict[str, list[str]] = {}
    for label, own in notes.items():
        for note in own:
            owners.setdefault(note, []).append(label)
    said: dict[str, list[str]] = {"": []}
    for note, of in owners.items():
        if not note.startswith(gone):
            said.setdefault("" if len(of) == len(notes) else f"{', '.join(of)}: ", []).append(note)
    every = (*said.pop(""), *(f"{words}{' '.join(own)}" for words, own in said.items()))
    banner = f"{BANNER}: " if "true" in context.get("random_weights", "") else ""
    return replace(made, caption=banner + made.caption, notes=every, corner=tables[0].corner, context=context)


def _cell(table: Table, line: Line | None, name: str) -> Cell:
    """Return the cell of a line below a column of its table; a gap where either is not there."""
    place = {column.name: i for i, column in enumerate(table.columns)}.get(name)
    return Cell(note="nothing of it") if line is None or place is None else line.cells[place]


def _shown(times: Counter[str]) -> list[str]:
    """Return names of lines, numbers ascending, what the rule picks last: those most data sets have, with the ends."""
    values = [name for name in times if name != PICKED]
    with suppress(ValueError):  # words stay in their order
        values = sorted(values, key=float)
    if len(values) > MAX_VALUES - 1:
        inner = sorted(values[1:-1], key=lambda name: -times[name])[: MAX_VALUES - 3]
        values = [name for name in values if name in (values[0], *inner, values[-1])]
    return [*values, *([PICKED] if PICKED in times else [])]


def _key(block: Block) -> tuple[str, str]:
    """Return the backbone of a block, and what else its title says."""
    return block.part, block.title.removeprefix(block.part).removeprefix(", ")


def _numbered(names: Sequence[str], form: str) -> list[str]:
    """Return names of which those that come again have a number."""
    return [n if names.count(n) == 1 else form.format(n, names[: i + 1].count(n)) for i, n in enumerate(names)]


def _of(table: Table, field: str) -> str:
    """Return what all numbers of a table share of a field."""
    return table.context.get(field, "")
