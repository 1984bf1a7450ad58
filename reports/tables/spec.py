"""`TableSpec`: which settings share a table, and how its blocks, columns, cells and notes are made from them.

`TableSpec.build` returns a `reports.render.table.Table`. A new built-in table is one `TableSpec` with an entry in
`TABLES` of reports/tables/all.py. Users name their own table as `module:TABLE`, see docs/adding.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from benchmark.common.errors import IcmBenchError
from benchmark.method.evaluation.selection import RULES
from reports.analysis.comparisons import Ranked
from reports.analysis.methods import Method
from reports.analysis.selections import Selections, SettingResults
from reports.analysis.settings import Options, Setting, grouped
from reports.render.table import Block, Cell, Column, Line, Table
from reports.tables import cells, words

T = TypeVar("T")
# Settings that share a table. data sets: all data sets and backbones. data set: all backbones of one data set. setting:
# a single one. open class: all class halves of an open-class protocol. variants: one data set whose environments are
# whole data sets. report: all settings. `_scopes` of reports/tables/all.py makes these groups; a new scope needs one.
Scope = Literal["data sets", "data set", "setting", "open class", "variants", "report"]
_NAMED = 6  # largest number of columns without bold that are listed by name


@dataclass(frozen=True)
class Request:
    """Input of a table: its settings and the options of the report.

    Attributes:
        results: settings that share the table, each with its rows.
        options: options of the report.
        requested_rule: selection rule requested by the reader; None (default) for the common source rule, see `rule`.
        names: long name -> short name of methods, projections, predictors, backbones, data sets and environments.
        report: all settings of the report; by default none.
        costs: measured costs, see `reports.tables.cost`.
    """

    results: Sequence[SettingResults]
    options: Options
    requested_rule: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    report: Sequence[SettingResults] = ()
    costs: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def rule(self) -> str:
        """Selection rule of all numbers in the table.

        Raises:
            IcmBenchError: the requested rule does not exist.
        """
        if self.requested_rule is None and self.setting.protocol_class.looks_at_target:  # no source scores
            return rule_in_domain(self.selections)
        return common_rule(self.results, self.requested_rule)

    @property
    def setting(self) -> Setting:
        """The first setting."""
        return self.results[0][0]

    @property
    def selections(self) -> Selections:
        """The rows of the first setting."""
        return self.results[0][1]

    @property
    def sets(self) -> list[str]:
        """The data sets, in order."""
        return list(by_data_set(self.results))

    @property
    def backbones(self) -> dict[str, list[SettingResults]]:
        """The settings of each backbone, by label of the backbone."""
        return by_backbone(self.results)

    @property
    def bound(self) -> bool:
        """Whether target labels enter the numbers, which are then bounds and not results."""
        return cells.bound_by(self.rule, self.setting.protocol_class.looks_at_target)

    @property
    def what(self) -> str:
        """Text for captions: the data set if there is only one, and the backbone if there is only one."""
        shared = {s.dataset for s, _ in self.results}, {s.backbone_label for s, _ in self.results}
        return ", ".join(next(iter(names)) for names in shared if len(names) == 1)

    def short(self, name: str) -> str:
        """Return the short name of a data set, backbone, predictor or environment for printed tables."""
        return self.names.get(name, name)


def rule_in_domain(selections: Selections) -> str:
    """Return the selection rule for fits on the tested environment: the source rule or, without scores, `oracle`."""
    return selections.rule if RULES[selections.rule] in selections.rules else "oracle"


def source_fits(request: Request) -> Sequence[SettingResults]:
    """Return the settings whose fits use no target labels. Their numbers are results, not bounds."""
    return [one for one in request.results if not one[0].protocol_class.looks_at_target]


@dataclass(frozen=True)
class Draft(Generic[T]):
    """A block whose cells are not computed yet.

    Attributes:
        title: common part of its lines; empty if the table has a single block.
        lines: (line without cells, subject from which its cells are computed).
        part: short name of the backbone, by which a table that is too wide or too long is split.
        methods: method of each line, if methods are ranked.
        place: backbone and predictor in words, if methods are ranked.
    """

    title: str
    lines: Sequence[tuple[Line, T]]
    part: str = ""
    methods: Sequence[Method] = ()
    place: str = ""


@dataclass(frozen=True)
class Values(Generic[T]):
    """A column and the function that computes its cells.

    Attributes:
        column: the column's name, short name, group and unit.
        cell: function from the subject of a line to a cell.
        ranked: function from a block to the ranking of its methods; the best are bold. None (default): no bold.
        named: name of the column in the note that lists columns without bold; by default the column's name.
        marked: whether numbers in lines that equal plain prediction get the sign "="; default True.
    """

    column: Column
    cell: Callable[[T], Cell]
    ranked: Callable[[Draft[T]], Ranked | None] | None = None
    named: str = ""
    marked: bool = True


@dataclass(frozen=True)
class TableSpec(Generic[T]):
    """Specification of a table.

    Attributes:
        name: name of its files: "main".
        caption: request -> caption, at most 40 words.
        blocks: request -> blocks, in order.
        columns: request -> columns, in order; empty columns are left out.
        notes: (request, table without notes) -> further sentences for this table; empty ones are left out.
        scope: settings that share one table, see `Scope`.
        settings: request -> settings of the table (empty: there is no table); by default all settings of the request.
        several_rules: whether the table has several selection rules; default False: its numbers are by the source rule.
        corner: heading of the names of the lines.
        whole: whether `Table.details` describes in full how the numbers were measured.
    """

    name: str
    caption: Callable[[Request], str]
    blocks: Callable[[Request], Iterable[Draft[T]]]
    columns: Callable[[Request], Iterable[Values[T]]]
    notes: Callable[[Request, Table], Iterable[str]] = lambda _, __: ()
    scope: Scope = "data sets"
    settings: Callable[[Request], Sequence[SettingResults]] = lambda request: request.results
    several_rules: bool = False
    corner: str = "Method"
    whole: bool = False

    def build(self, request: Request) -> Table | None:
        """Return the table; None if it would have fewer than two lines or no numbers.

        Raises:
            IcmBenchError: the settings cannot share a table, or the requested rule does not exist.
        """
        request = replace(request, results=self.settings(request) if request.results else ())
        if not request.results:
            return None
        if self.scope != "report":
            check_compatible(request.results, self.name, halves=self.scope == "open class")
        columns, all_tied = list(self.columns(request)), list[str]()
        blocks = [_filled(draft, columns, request, all_tied) for draft in self.blocks(request) if draft.lines]
        caption = words.caption(request.results, self.caption(request))
        table = Table(self.name, caption, tuple(one.column for one in columns), tuple(blocks), corner=self.corner)
        bold = words.BOLD if any(cell.best for _, line in table.lines() for cell in line.cells) else ""
        tied_columns = "; ".join(all_tied) if len(all_tied) <= _NAMED else f"{len(all_tied)} columns of blocks"
        none = f"Nothing is bold if all methods of a block are tied with the best: {tied_columns}." if all_tied else ""
        own = [note for note in (bold, none, *self.notes(request, table)) if note]
        lines, rule = [line for _, line in table.lines()], None if self.several_rules else request.rule
        there = [any(x.cells[i].value is not None or x.cells[i].text for x in lines) for i in range(len(columns))]
        table = table.with_columns([i for i, is_there in enumerate(there) if is_there])
        if len(lines) < 2 or not table.columns:
            return None
        context = words.context(request.results, rule, request.options)
        if self.scope == "report":
            return replace(table, notes=tuple(own), context={"random_weights": context["random_weights"]})
        notes = words.notes(request.results, rule, request.options, own)
        details = words.details(request.results, request.options) if self.whole else ()
        return replace(table, notes=tuple(notes), details=tuple(details), context=context)


def _filled(draft: Draft[T], columns: Sequence[Values[T]], request: Request, all_tied: list[str]) -> Block:
    """Return a block with its cells. In each column, the best number and the numbers tied with it are bold.

    A column in which all methods are tied has no bold numbers; its name is appended to `all_tied`.
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
            all_tied.append(f"{one.named or one.column.name} ({draft.place})")
            continue
        for row, method in zip(made, draft.methods, strict=True):
            cell = row[place]
            best = method in found.tied and not (cell.value is None or cell.equals_plain or cell.bound)
            row[place] = replace(cell, best=best)
    lines = [replace(line, cells=tuple(row)) for (line, _), row in zip(draft.lines, made, strict=True)]
    return Block(draft.title, tuple(lines), draft.part)


# Fields of `Setting` that are equal in all settings of a table.
_ALL_SHARE = ("protocol", "test_split", "folds", "rounding", "precision", "class_half")
# Fields that are equal for one data set or one backbone of a table -> the field that names the data set or backbone.
_OWNERS = {
    **dict.fromkeys(("templates", "grouped", "dataset_fingerprint"), "dataset"),
    "backbone_fingerprint": "backbone_label",
}
_CALLED = {"dataset": "data set", "backbone_label": "backbone"}
_HALVES = "class_half"
_SAME_TEMPLATES = "use equal prompts.templates for all backbones, or report on one with --where backbone=NAME"


def groups(results: Sequence[SettingResults], halves: bool = False) -> list[list[SettingResults]]:
    """Return groups of settings that can share a table, in the order of the settings; see `check_compatible`.

    If a data set has several prompts or fingerprints, each gets a group. Settings with equal prompts share a group.
    """
    shared = [name for name in _ALL_SHARE if not (halves and name == _HALVES)]
    parts = [*grouped(results, lambda one: tuple(getattr(one[0], name) for name in shared)).values()]
    for name, owner in _OWNERS.items():
        parts = [part for whole in parts for part in _apart(whole, name, owner)]
    return parts


def check_compatible(results: Sequence[SettingResults], table: str, halves: bool = False) -> None:
    """Check that settings can share a table.

    Raises:
        IcmBenchError: a field in `_ALL_SHARE` differs, or a field in `_OWNERS` differs within one data set or backbone.
            The message names the field.
    """
    owners = {**dict.fromkeys(_ALL_SHARE, ""), **_OWNERS}
    for name, owner in owners.items():
        values: dict[str, set[object]] = {}
        for setting, _ in results if not (halves and name == _HALVES) else ():
            whose = f"of the {_CALLED[owner]} {getattr(setting, owner)} " if owner else ""
            values.setdefault(whose, set()).add(getattr(setting, name))
        for whose, found in values.items():
            if len(found) > 1:
                first, second, *more = sorted(map(str, found))
                shown = f"{first[:60]}, {second[:60]}{', ...' if more else ''}"
                remedy = _SAME_TEMPLATES if name == "templates" else f"report on one of them with --where {name}=VALUE"
                raise IcmBenchError(
                    f"Rows with different {name} {whose}({shown}) cannot share the table '{table}': {remedy}."
                )


def common_rule(results: Sequence[SettingResults], rule: str | None = None) -> str:
    """Return the selection rule of a table: `rule` if given, else the rule of verdicts that all settings can use.

    Raises:
        IcmBenchError: the rule does not exist.
    """
    if rule is not None and rule not in RULES:
        raise IcmBenchError(f"There is no selection rule '{rule}'; choose one of {', '.join(RULES)}.")
    fair = [RULES[selections.rule] for _, selections in results]
    score = "lodo" if all(one.score == "lodo" for one in fair) else "training_domain"
    return rule or (f"{score}_1se" if all(one.one_se for one in fair) else score)


def by_data_set(results: Sequence[SettingResults]) -> dict[str, list[SettingResults]]:
    """Return the settings of each data set, in their order, by name of the data set."""
    return grouped(results, lambda one: one[0].dataset)


def by_backbone(results: Sequence[SettingResults]) -> dict[str, list[SettingResults]]:
    """Return the settings of each backbone, in their order, by label of the backbone."""
    return grouped(results, lambda one: one[0].backbone_label)


def _apart(results: Sequence[SettingResults], name: str, owner: str) -> list[list[SettingResults]]:
    """Split settings if one value of the field `owner` (a data set or backbone) has several values of the field `name`.

    Settings are split by the value of `templates`. For other fields, the first value of each owner goes into the first
    group, the second value into the second group, and so on.
    """
    values: dict[str, list[object]] = {}
    for setting, _ in results:
        own = values.setdefault(getattr(setting, owner), [])
        own += [] if getattr(setting, name) in own else [getattr(setting, name)]
    if all(len(own) == 1 for own in values.values()):
        return [list(results)]
    if name == "templates":
        return [*grouped(results, lambda one: one[0].templates).values()]
    by_place = grouped(results, lambda one: values[getattr(one[0], owner)].index(getattr(one[0], name)))
    return [*by_place.values()]
