"""A table is a spec: which settings share it, its lines and columns, what stands in a cell, and its notes.

`TableSpec.build` makes a `reports.render.table.Table` of it. A new table is one `TableSpec` in one file; a user's own
is named as `module:TABLE`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from benchmark.method.evaluation.selection import RULES
from reports.analysis.chosen import Selections
from reports.analysis.comparisons import Ranked
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, by_data_set, check_alike, common_rule

T = TypeVar("T")
# Settings that share a table: all data sets and backbones, all of one data set, one setting, open-class protocols with
# their halves of the classes, one data set whose environments are whole data sets, or the report.
Scope = Literal["data sets", "data set", "setting", "open class", "variants", "report"]
_NAMED = 6  # columns in which nothing is bold, of which the names are said


@dataclass(frozen=True)
class Request:
    """The settings of one table, and what the reader asks for.

    Attributes:
        described: settings that share the table, each with its rows.
        options: what the reader asks for.
        asked: the selection rule that is asked for; None (default) for what is fair, see `rule`.
        names: long name -> short name of methods, projections, predictors, backbones, data sets and environments.
        report: all settings of the report; by default none.
        costs: what was measured, see `reports.tables.cost`.
    """

    described: Described
    options: Options
    asked: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    report: Described = ()
    costs: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def rule(self) -> str:
        """What chooses for everything in the table.

        Raises:
            IcmBenchError: there is no such rule.
        """
        if self.asked is None and self.setting.protocol_class.looks_at_target:  # sources may leave nothing to choose by
            return rule_in_domain(self.selections)
        return common_rule(self.described, self.asked)

    @property
    def setting(self) -> Setting:
        """The first setting."""
        return self.described[0][0]

    @property
    def selections(self) -> Selections:
        """The rows of the first setting."""
        return self.described[0][1]

    @property
    def sets(self) -> list[str]:
        """The data sets, in order."""
        return list(by_data_set(self.described))

    @property
    def backbones(self) -> dict[str, Described]:
        """Label of a backbone -> its settings."""
        return by_backbone(self.described)

    @property
    def bound(self) -> bool:
        """Whether labels of what is tested enter the numbers: bounds, no results."""
        return cells.bound_by(self.rule, self.setting.protocol_class.looks_at_target)

    @property
    def what(self) -> str:
        """The one data set and the one backbone, for captions; nothing where there are several."""
        return words.what(self.described)

    def short(self, name: str) -> str:
        """Return a name of a data set, backbone, predictor or environment as a printed table has it."""
        return words.short(name, self.names)


def rule_in_domain(selections: Selections) -> str:
    """Return what chooses for fits on the tested environment: what is fair where that has scores, else `oracle`."""
    return selections.rule if RULES[selections.rule] in selections.rules else "oracle"


def results(request: Request) -> Described:
    """Return the settings that are results: no label of what is tested enters their fits."""
    return [one for one in request.described if not one[0].protocol_class.looks_at_target]


@dataclass(frozen=True)
class Draft(Generic[T]):
    """A block before its cells are made.

    Attributes:
        title: what its lines share; empty where the table has one block alone.
        lines: each without cells, with what its cells are made from.
        part: by what a table that is too wide or too long is divided: the short name of the backbone.
        methods: of each line, where these are ranked.
        place: backbone and predictor in words, where methods are ranked.
    """

    title: str
    lines: Sequence[tuple[Line, T]]
    part: str = ""
    methods: Sequence[Method] = ()
    place: str = ""


@dataclass(frozen=True)
class Values(Generic[T]):
    """A column with what stands in it.

    Attributes:
        column: what stands above it.
        cell: what the cells of a line are made from -> its cell.
        ranked: block -> what the differences say of the order of its methods, so that the best ones are bold; by
            default nothing is.
        named: the column in the note on blocks where nothing is bold; by default its name.
        marked: whether numbers of lines that are plain prediction have the mark "=".
    """

    column: Column
    cell: Callable[[T], Cell]
    ranked: Callable[[Draft[T]], Ranked | None] | None = None
    named: str = ""
    marked: bool = True


@dataclass(frozen=True)
class TableSpec(Generic[T]):
    """A table of a report.

    Attributes:
        name: of its files: "main".
        caption: request -> what it shows, at most 40 words.
        blocks: request -> its blocks, in order.
        columns: request -> its columns, in order; those in which nothing stands are left out.
        notes: request, and the table without notes -> its own sentences, empty ones left out.
        scope: which settings share one, see `Scope`.
        settings: request -> those of its settings that the table is of, none for no table; by default all.
        rule: what chooses: `fair`; `base`, the same without keeping anything back, so that values are told apart; or
            `every`, for a table that has several rules.
        corner: what stands above the names of the lines.
        whole: whether details say everything of how it was tested.
    """

    name: str
    caption: Callable[[Request], str]
    blocks: Callable[[Request], Iterable[Draft[T]]]
    columns: Callable[[Request], Iterable[Values[T]]]
    notes: Callable[[Request, Table], Iterable[str]] = lambda _, __: ()
    scope: Scope = "data sets"
    settings: Callable[[Request], Described] = lambda request: request.described
    rule: Literal["fair", "base", "every"] = "fair"
    corner: str = "Method"
    whole: bool = False

    def build(self, request: Request) -> Table | None:
        """Return the table; None where it would have fewer than two lines, or nothing in them.

        Raises:
            IcmBenchError: the settings may not share a table, or there is no such rule.
        """
        request = replace(request, described=self.settings(request) if request.described else ())
        if not request.described:
            return None
        if self.scope != "report":
            check_alike(request.described, self.name, halves=self.scope == "open class")
        if self.rule == "base":
            request = replace(request, asked=RULES[request.rule].base)
        columns, bold = list(self.columns(request)), _Bold()
        drafts = [draft for draft in self.blocks(request) if draft.lines]
        blocks = [Block(one.title, tuple(bold.filled(one, columns, request)), one.part) for one in drafts]
        caption = words.caption(request.described, self.caption(request))
        table = Table(self.name, caption, tuple(one.column for one in columns), tuple(blocks), corner=self.corner)
        own = [note for note in (*bold.notes, *self.notes(request, table)) if note]
        table, rule = _without_gaps(table), None if self.rule == "every" else request.rule
        if not table.is_worth_printing:
            return None
        context = words.context(request.described, rule, request.options)
        if self.scope == "report":
            return replace(table, notes=tuple(own), context={"random_weights": context["random_weights"]})
        notes = words.notes(request.described, rule, request.options, own)
        details = words.details(request.described, request.options) if self.whole else ()
        return replace(table, notes=tuple(notes), details=tuple(details), context=context)


@dataclass
class _Bold:
    """Makes the lines of blocks, and keeps whether any cell is bold and where none is since all methods are tied."""

    used: bool = False
    level: list[str] = field(default_factory=list)

    def filled(self, draft: Draft[T], columns: Sequence[Values[T]], request: Request) -> list[Line]:
        """Return the lines of a block with their cells; bold is what is not separated from the best of a column."""
        made = []
        for line, subject in draft.lines:
            own = [(one.cell(subject), line.equals_plain and one.marked) for one in columns]
            made.append([replace(x, equals_plain=True) if same and x.text is None else x for x, same in own])
        for place, one in enumerate(columns):
            found = one.ranked(draft) if one.ranked and not request.bound else None
            if not found or not found.tied:
                continue
            if len(found.tied) == len(found.methods):
                self.level.append(f"{one.named or one.column.name} ({draft.place})")
                continue
            for row, method in zip(made, draft.methods, strict=True):
                cell = row[place]
                best = method in found.tied and not (cell.value is None or cell.equals_plain or cell.bound)
                row[place] = replace(cell, best=best)
                self.used = self.used or best
        return [replace(line, cells=tuple(row)) for (line, _), row in zip(draft.lines, made, strict=True)]

    @property
    def notes(self) -> list[str]:
        """What bold means, and where nothing is bold since all are level."""
        named = "; ".join(self.level) if len(self.level) <= _NAMED else f"{len(self.level)} columns of blocks"
        level = f"Nothing is bold where all of the block is level with the best: {named}." if self.level else ""
        return [note for note in (words.BOLD if self.used else "", level) if note]


def _without_gaps(table: Table) -> Table:
    """Return a table without columns in which nothing stands."""
    lines = [line for _, line in table.lines()]
    there = [any(x.cells[i].value is not None or x.cells[i].text for x in lines) for i in range(len(table.columns))]
    return table.with_columns([i for i, is_there in enumerate(there) if is_there])
