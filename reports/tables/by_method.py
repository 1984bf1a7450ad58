"""Parts of tables that have a block for each backbone and predictor, and a line for each method."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TypeVar

from benchmark.method.evaluation.inference import pooled_interval
from benchmark.method.evaluation.selection import IMPORTED
from reports.analysis.comparisons import Ranked, ranked, ties
from reports.analysis.methods import PLAIN, SHRINKAGE, Method
from reports.analysis.selections import Selections, SettingResults
from reports.render.table import Cell, Column, Line
from reports.tables import cells, words
from reports.tables.spec import Draft, Request, Values

T = TypeVar("T")
PICKS = Column("plain in k of n picks", "Plain picks", unit="")


def methods_of(results: Sequence[SettingResults], predictor: str | None = None, every: bool = False) -> list[Method]:
    """Return the methods of all settings, in table order.

    If `every`, the list includes placebos, parts of other methods, and methods fitted on a share of the pairs. Tables
    of one data set and backbone, and tables of comparisons, show them.
    """
    found = {method for _, selections in results for method in selections.parts}
    found = {m for m in found if predictor in (None, block_of(m))}
    if not every:
        found = {m for m in found if not (m.projection in (PLAIN, SHRINKAGE) and m.variant)}
        found = {m for m in found if not m.placebo and m.with_all_pairs == m}
    return sorted(found, key=lambda method: method.place)


def predictors_of(results: Sequence[SettingResults], every: bool = False) -> list[str]:
    """Return the blocks of `methods_of` in table order: the predictors, and one block for imported methods."""
    return list(dict.fromkeys(block_of(method) for method in methods_of(results, every=every)))


def block_of(method: Method) -> str:
    """Return the block of a method: its predictor, or one common block for imported methods."""
    return IMPORTED if method.imported else method.predictor


def predictor_words(results: Sequence[SettingResults], predictor: str) -> str:
    """Return the label of a predictor; "imported" for the block of imported methods."""
    methods = (m for _, selections in results for m in selections.parts if m.predictor == predictor)
    return next((method.predictor_label for method in methods), predictor)


@dataclass(frozen=True)
class Entry:
    """A method in the settings of one backbone: the subject of a table line.

    Attributes:
        request: request of the table.
        results: settings of the backbone, each with its rows.
        method: the method.
    """

    request: Request
    results: Sequence[SettingResults]
    method: Method

    @property
    def selections(self) -> Selections:
        """Rows of the first setting, for tables with one setting per backbone."""
        return self.results[0][1]

    @property
    def is_plain(self) -> bool:
        """Whether all picks of the method keep the full space."""
        return cells.is_plain((x for _, x in self.results), self.method, self.request.rule)

    def accuracy(self, held_out: str | None = None, **of: str) -> cells.Number:
        """Return the accuracy on one environment, or averaged over all. `of` selects the setting: `dataset="PACS"`."""
        return self._number(of, partial(cells.accuracy, held_out=held_out))

    def gain(self, **of: str) -> cells.Number:
        """Return the accuracy minus plain prediction's on the same images, in the setting that `of` selects."""
        return self._number(of, cells.gain)

    def plain_picks(self) -> Cell:
        """Return the cell "k of n": k of n picks keep the full space."""
        return cells.count(*cells.plain_picks((x for _, x in self.results), self.method, self.request.rule))

    def _number(self, of: dict[str, str], measured: Callable[..., cells.Number]) -> cells.Number:
        found = setting_of(self.results, **of)
        if found is None:
            return cells.Number(Cell(note="no result rows of this data set under this backbone"))
        setting, selections = found
        rule = self.request.rule
        bound = cells.bound_by(rule, setting.protocol_class.looks_at_target)
        plain = cells.is_plain([selections], self.method, rule)
        return measured(selections, self.method, rule, self.request.options).of(bound, plain)

    def over_sets(self, number: Callable[..., cells.Number], sets: Iterable[str] | None = None) -> Cell:
        """Return the mean of `number` (`accuracy` or `gain`) over data sets, by default over those of the table."""
        every = [(name, number(self, dataset=name)) for name in (self.request.sets if sets is None else sets)]
        return cells.over_sets(every, self.request.options)


def accuracy(entry: Entry, held_out: str | None = None, **of: str) -> Cell:
    """Return the cell of `Entry.accuracy`, for use in columns."""
    return entry.accuracy(held_out, **of).cell


def setting_of(results: Sequence[SettingResults], **of: str) -> SettingResults | None:
    """Return the first setting whose fields have the values in `of`, with its rows; None if there is none."""
    return next((one for one in results if all(getattr(one[0], key) == value for key, value in of.items())), None)


def line_of(entry: Entry, equals_plain: bool | None = None) -> Line:
    """Return the line of a method without cells; `equals_plain` is by default `Entry.is_plain`."""
    plain = entry.is_plain if equals_plain is None else equals_plain
    key = {"backbone": entry.results[0][0].backbone_label, "method": entry.method.label}
    return Line(entry.method.label, (), words.short_name(entry.method, entry.request.names), plain, key)


def each(entries: list[Entry]) -> Iterator[tuple[Line, Entry]]:
    """Yield each entry with its line, for tables that show all entries."""
    return ((line_of(entry), entry) for entry in entries)


def by_method(
    lines: Callable[[list[Entry]], Iterable[tuple[Line, T]]], every: bool = False
) -> Callable[[Request], Iterator[Draft[T]]]:
    """Return a `TableSpec.blocks` function with a block for each backbone and predictor.

    Args:
        lines: function that takes the entries of a block and returns (line, subject) pairs; cells are computed from the
            subject. See `each`.
        every: whether placebos and parts of methods are included; default False.
    """

    def blocks(request: Request) -> Iterator[Draft[T]]:
        predictors = predictors_of(request.results, every)
        for backbone, parts in request.backbones.items():
            for predictor in predictors:
                label = predictor_words(parts, predictor)
                entries = [Entry(request, parts, method) for method in methods_of(parts, predictor, every)]
                made = list(lines(entries)) if entries else []
                titles = [request.short(backbone)] if len(request.backbones) > 1 else []
                titles += [request.short(label)] if len(predictors) > 1 else []
                methods = [entry.method for _, entry in made if isinstance(entry, Entry)]
                yield Draft(", ".join(titles), made, request.short(backbone), methods, f"{backbone}, {label}")

    return blocks


def picks(request: Request, methods: Iterable[Method]) -> list[Values[Entry]]:
    """Return a list with the column of plain picks; an empty list if no method's pick equals plain prediction."""
    every, rule = [selections for _, selections in request.results], request.rule
    if not any(cells.plain_picks(every, method, rule)[0] for method in methods if not method.is_plain):
        return []
    return [Values(PICKS, lambda entry: entry.plain_picks())]


def ranking(draft: Draft[Entry], **of: str) -> Ranked | None:
    """Return the ranking of a block's methods in the setting that `of` selects; None if they cannot be ranked."""
    _, entry = draft.lines[0]
    found = setting_of(entry.results, **of)
    compared = ranked(found[1], entry.request.rule, frozenset(draft.methods)) if found else None
    return compared[0] if compared else None


def mean_ranking(draft: Draft[Entry], **of: str) -> Ranked | None:
    """Return the ranking of a block's methods by their mean over data sets with equal weights, or None.

    The methods that every data set ranks are compared in pairs, by pooled intervals. P-values are Holm-adjusted over
    all pairs.
    """
    of_sets = [ranking(draft, dataset=name, **of) for name in draft.lines[0][1].request.sets]
    every = [(one.methods, one.ranking) for one in of_sets if one is not None and one.ranking is not None]
    if not every or len(every) < len(of_sets):
        return None
    methods = tuple(m for m in every[0][0] if all(m in one for one, _ in every))
    if len(methods) < 2:
        return None
    differences = {
        (a, b): pooled_interval([found.differences[one.index(a), one.index(b)] for one, found in every])
        for a, b in combinations(methods, 2)
    }
    found = ties(methods, differences)
    return Ranked(methods, () if found.equal else found.tied)
