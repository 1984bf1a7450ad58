"""A table is a spec: which settings share it, its lines and columns, what stands in a cell, and its notes.

`TableSpec.build` makes a `reports.render.table.Table` of it. A new table is one `TableSpec` in one file; a user's own
is named as `module:TABLE`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.selection import RULES
from reports.analysis.chosen import Selections, SettingResults
from reports.analysis.comparisons import Ranked
from reports.analysis.methods import Method
from reports.analysis.settings import Options, Setting, grouped
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words

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

    described: Sequence[SettingResults]
    options: Options
    asked: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    report: Sequence[SettingResults] = ()
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
    def backbones(self) -> dict[str, list[SettingResults]]:
        """Label of a backbone -> its settings."""
        return by_backbone(self.described)

    @property
    def bound(self) -> bool:
        """Whether labels of what is tested enter the numbers: bounds, no results."""
        return cells.bound_by(self.rule, self.setting.protocol_class.looks_at_target)

    @property
    def what(self) -> str:
        """The one data set and the one backbone, for captions; nothing where there are several."""
        shared = {s.dataset for s, _ in self.described}, {s.backbone_label for s, _ in self.described}
        return ", ".join(next(iter(names)) for names in shared if len(names) == 1)

    def short(self, name: str) -> str:
        """Return a name of a data set, backbone, predictor or environment as a printed table has it."""
        return self.names.get(name, name)


def rule_in_domain(selections: Selections) -> str:
    """Return what chooses for fits on the tested environment: what is fair where that has scores, else `oracle`."""
    return selections.rule if RULES[selections.rule] in selections.rules else "oracle"


def results(request: Request) -> Sequence[SettingResults]:
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
    settings: Callable[[Request], Sequence[SettingResults]] = lambda request: request.described
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
        columns, level = list(self.columns(request)), list[str]()
        blocks = [_filled(draft, columns, request, level) for draft in self.blocks(request) if draft.lines]
        caption = words.caption(request.described, self.caption(request))
        table = Table(self.name, caption, tuple(one.column for one in columns), tuple(blocks), corner=self.corner)
        bold = words.BOLD if any(cell.best for _, line in table.lines() for cell in line.cells) else ""
        columns_level = "; ".join(level) if len(level) <= _NAMED else f"{len(level)} columns of blocks"
        none = f"Nothing is bold where all of the block is level with the best: {columns_level}." if level else ""
        own = [note for note in (bold, none, *self.notes(request, table)) if note]
        lines, rule = [line for _, line in table.lines()], None if self.rule == "every" else request.rule
        there = [any(x.cells[i].value is not None or x.cells[i].text for x in lines) for i in range(len(columns))]
        table = table.with_columns([i for i, is_there in enumerate(there) if is_there])
        if len(lines) < 2 or not table.columns:
            return None
        context = words.context(request.described, rule, request.options)
        if self.scope == "report":
            return replace(table, notes=tuple(own), context={"random_weights": context["random_weights"]})
        notes = words.notes(request.described, rule, request.options, own)
        details = words.details(request.described, request.options) if self.whole else ()
        return replace(table, notes=tuple(notes), details=tuple(details), context=context)


def _filled(draft: Draft[T], columns: Sequence[Values[T]], request: Request, level: list[str]) -> Block:
    """Return a block with its cells; bold is what is not separated from the best of a column.

    Columns in which nothing is bold, since all methods are tied, are added to `level`.
    """
    made = []
    for line, subject in draft.lines:
        own = [(one.cell(subject), line.equals_plain and one.marked) for one in columns]
        made.append([replace(x, equals_plain=True) if same and x.text is None else x for x, same in own])
    for place, one in enumerate(columns):
        found = one.ranked(draft) if one.ranked and not request.bound else None
        if not found or not found.tied:
            continue
        if len(found.tied) == len(found.methods):
            level.append(f"{one.named or one.column.name} ({draft.place})")
            continue
        for row, method in zip(made, draft.methods, strict=True):
            cell = row[place]
            best = method in found.tied and not (cell.value is None or cell.equals_plain or cell.bound)
            row[place] = replace(cell, best=best)
    lines = [replace(line, cells=tuple(row)) for (line, _), row in zip(draft.lines, made, strict=True)]
    return Block(draft.title, tuple(lines), draft.part)


_ALL_SHARE = ("protocol", "test_split", "folds", "rounding", "precision", "class_half")
# Templates, groups and images are a data set's own: they may differ between data sets, and never within one.
_OWNERS = {
    **dict.fromkeys(("templates", "grouped", "dataset_fingerprint"), "dataset"),
    "backbone_fingerprint": "backbone_label",
}
_CALLED = {"dataset": "data set", "backbone_label": "backbone"}
_HALVES = "class_half"
_SAME_TEMPLATES = "give backbones the same prompts.templates, or take those that have with --where backbone=NAME"


def groups(described: Sequence[SettingResults], halves: bool = False) -> list[list[SettingResults]]:
    """Return the settings that may share a table, in the order of the settings; see `check_alike`.

    A data set that comes with several prompts, or in several states, stands in a group for each. Settings with the same
    prompts are taken together.
    """
    shared = [name for name in _ALL_SHARE if not (halves and name == _HALVES)]
    parts = [*grouped(described, lambda one: tuple(getattr(one[0], name) for name in shared)).values()]
    for name, owner in _OWNERS.items():
        parts = [part for whole in parts for part in _apart(whole, name, owner)]
    return parts


def check_alike(described: Sequence[SettingResults], table: str, halves: bool = False) -> None:
    """Refuse settings whose rows cannot stand in one table.

    Raises:
        IcmBenchError: protocol, split, folds, precision or half of the classes differ; or prompts, groups or images of
            one data set; or the weights of one backbone. Names the field.
    """
    owners = {**dict.fromkeys(_ALL_SHARE, ""), **_OWNERS}
    for name, owner in owners.items():
        values: dict[str, set[object]] = {}
        for setting, _ in described if not (halves and name == _HALVES) else ():
            whose = f"of the {_CALLED[owner]} {getattr(setting, owner)} " if owner else ""
            values.setdefault(whose, set()).add(getattr(setting, name))
        for whose, unlike in values.items():
            if len(unlike) > 1:
                first, second, *more = sorted(map(str, unlike))
                said = f"{first[:60]}, {second[:60]}{', ...' if more else ''}"
                remedy = _SAME_TEMPLATES if name == "templates" else f"report on one of them with --where {name}=VALUE"
                raise IcmBenchError(
                    f"Rows of unlike {name} {whose}({said}) cannot stand in the one table '{table}': {remedy}."
                )


def common_rule(described: Sequence[SettingResults], rule: str | None = None) -> str:
    """Return what chooses for everything in a table: `lodo_1se` if all settings have it, else what they all have.

    Raises:
        IcmBenchError: there is no such rule.
    """
    if rule is not None and rule not in RULES:
        raise IcmBenchError(f"There is no selection rule '{rule}'; choose one of {', '.join(RULES)}.")
    fair = [RULES[selections.rule] for _, selections in described]
    score = "lodo" if all(one.score == "lodo" for one in fair) else "training_domain"
    return rule or (f"{score}_1se" if all(one.one_se for one in fair) else score)


def by_data_set(described: Sequence[SettingResults]) -> dict[str, list[SettingResults]]:
    """Return data set -> its settings, in their order."""
    return grouped(described, lambda one: one[0].dataset)


def by_backbone(described: Sequence[SettingResults]) -> dict[str, list[SettingResults]]:
    """Return label of a backbone -> its settings, in their order."""
    return grouped(described, lambda one: one[0].backbone_label)


def _apart(described: Sequence[SettingResults], name: str, owner: str) -> list[list[SettingResults]]:
    """Split settings where one owner has several values of a field: templates by value, fingerprints by their place."""
    values: dict[str, list[object]] = {}
    for setting, _ in described:
        own = values.setdefault(getattr(setting, owner), [])
        own += [] if getattr(setting, name) in own else [getattr(setting, name)]
    if all(len(own) == 1 for own in values.values()):
        return [list(described)]
    if name == "templates":
        return [*grouped(described, lambda one: one[0].templates).values()]
    by_place = grouped(described, lambda one: values[getattr(one[0], owner)].index(getattr(one[0], name)))
    return [*by_place.values()]
