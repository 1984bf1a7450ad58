"""Every method minus plain prediction, PCA and random projection: differences with intervals, p-values by Holm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.method.evaluation.inference import Interval
from benchmark.method.evaluation.judging import adjusted_interval
from reports.analysis.comparisons import Adjusted, Comparison, Overall, compare, in_family, over_data_sets
from reports.analysis.methods import PLAIN, Method
from reports.analysis.options import Options
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_data_set, check_alike, common_rule
from reports.tables.blocks import blocks_of, line_of, methods_of, table_of

NAME, OVER_SETS = "comparisons", "over_data_sets"
BASELINES = {PLAIN: "plain", "pca": "PCA", "random": "random"}
_LEAST = 0.001  # of p-values: smaller ones are said to be below it


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return what methods gain over baselines, on one data set or over several; None where nothing is compared.

    Over several data sets it has a name of its own, `OVER_SETS`.

    Args:
        described: settings that may share a table.
        options: what the reader asks for.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors and backbones.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    described = [one for one in described if not one[0].protocol_class.looks_at_target]
    if not described:
        return None
    check_alike(described, NAME)
    names, rule = names or {}, common_rule(described, rule)

    def lines(parts: Described, predictor: str, _: str) -> list[Line]:
        return _lines(parts, methods_of(parts, predictor, every=True), rule, names)

    columns = [
        column
        for words_ in BASELINES.values()
        for column in (
            Column(f"minus {words_}", "difference", f"minus {words_}", "points"),
            Column(f"minus {words_}, p (Holm)", "p", f"minus {words_}", ""),
        )
    ]
    columns += [
        Column("minus plain, in new environments", "in new environments", "minus plain", "points"),
        Column("ahead of plain in k of n environments", "ahead", "minus plain", ""),
    ]
    columns = [*columns[:2], *columns[-2:], *columns[2:-2]]
    several = len(by_data_set(described)) > 1
    where = "over data sets, each counting alike" if several else words.what(described)
    own = [
        words.INTERVAL,
        "p: of no difference, adjusted for all comparisons of a block (Holm). Baselines have the same predictor, and "
        "each method stands with what the rule picks for it.",
        "In new environments: interval from the variation between environments"
        f"{' and data sets' if several else ''}, at 95 % for all of a block together (Bonferroni); it needs four "
        "environments or several data sets.",
    ]
    if any(setting.grouped for setting, _ in described):
        own.append("Groups of images stand in several environments, which makes intervals for new ones too narrow.")
    caption = f"Methods minus plain prediction, PCA and random projection, in points: {where}."
    blocks = blocks_of(described, names, lines, every=True)
    return table_of(OVER_SETS if several else NAME, caption, columns, blocks, described, rule, options, own)


@dataclass(frozen=True)
class Made:
    """What is said of a pair of methods: intervals in fractions, and in how many environments it is ahead."""

    method: Method
    baseline: Method
    interval: Interval
    adjusted: Adjusted
    others: Interval | None
    ahead: tuple[int, int]


def comparisons_of(described: Described, methods: Sequence[Method], rule: str) -> list[Made]:
    """Return every method minus every baseline before it, of one data set or over several, adjusted together.

    Args:
        described: settings of one backbone.
        methods: of one predictor.
        rule: what chooses for both.
    """
    pairs = [(m, baseline) for m in methods for baseline in _baselines(methods) if baseline.place < m.place]
    single: list[Comparison] = []
    together: list[Overall] = []
    for method, baseline in pairs:
        there = [one for one in described if method in one[1].parts and baseline in one[1].parts]
        of_sets = [(setting.dataset, compare(selections, method, rule, baseline)) for setting, selections in there]
        known = [(name, one) for name, one in of_sets if one is not None]
        overall = over_data_sets(known) if len(described) > 1 else None
        together += [overall] if overall else []
        single += [one for _, one in known]
    if len(described) > 1:
        return [_made(one) for one in in_family(together)]
    return [_made(one) for one in in_family(single)]


def _made(one: Comparison | Overall) -> Made:
    others, new = one.others, one.others.interval
    return Made(
        one.method,
        one.baseline,
        one.interval,
        one.adjusted,
        None if new is None else adjusted_interval(new, one.adjusted.family),
        (others.ahead, others.ahead + others.level + others.behind),
    )


def _baselines(methods: Sequence[Method]) -> list[Method]:
    """Return plain prediction, PCA and random projection of those that are there, in this order."""
    found = {m.projection: m for m in methods if m.projection in BASELINES and not m.variant and m.order != "released"}
    return [found[name] for name in BASELINES if name in found]


def _lines(parts: Described, methods: Sequence[Method], rule: str, names: Mapping[str, str]) -> list[Line]:
    made = {(one.method, one.baseline): one for one in comparisons_of(parts, methods, rule)}
    baselines = {baseline.projection: baseline for baseline in _baselines(methods)}
    bound = cells.bound_by(rule, looks_at_target=False)
    lines = []
    for method in methods:
        found = [made.get((method, baselines[name])) if name in baselines else None for name in BASELINES]
        if any(found):
            own = [cell for one in found for cell in _two(one, bound)]
            plain = cells.is_plain([selections for _, selections in parts], method, rule)
            lines.append(line_of(method, [*own[:2], *_new(found[0], bound), *own[2:]], names, plain))
    return lines


_NOT_COMPARED = "a baseline itself, or no rows of both on the same images"


def _two(one: Made | None, bound: bool) -> list[Cell]:
    if one is None:
        return [Cell(note=_NOT_COMPARED, bound=bound)] * 2
    p = one.adjusted.p
    if np.isnan(p):
        return [cells.points(one.interval, bound=bound), Cell(note="no interval", bound=bound)]
    text = f"<{_LEAST}" if p < _LEAST else None
    return [cells.points(one.interval, bound=bound), Cell(value=p, decimals=3, text=text, bound=bound)]


def _new(one: Made | None, bound: bool) -> list[Cell]:
    if one is None:
        return [Cell(note=_NOT_COMPARED, bound=bound)] * 2
    few = Cell(note="new environments: cannot be answered from these", bound=bound)
    return [cells.points(one.others, bound=bound) if one.others else few, cells.count(*one.ahead)]
