"""The main table: methods by data sets, their average, and what it gains over plain prediction."""

from collections.abc import Mapping, Sequence

from benchmark.method.evaluation.metrics import ACCURACY, Metric
from reports.analysis.comparisons import Ranked
from reports.analysis.methods import Method
from reports.analysis.metrics import metrics_of
from reports.analysis.options import Options
from reports.analysis.robustness import Lines
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, check_alike, common_rule
from reports.tables.blocks import (
    PICKS,
    Marked,
    blocks_of,
    has_plain_picks,
    line_of,
    methods_of,
    over_sets,
    ranking_of,
    table_of,
    with_picks,
)

NAME = "main"
AVERAGE = Column("average over data sets", "Average")
GAIN = Column("minus plain", "− plain", unit="points")
_LEFT_OUT = "Placebos, parts of methods and shares of the pairs stand in the tables of environments."


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return methods by data sets, a block for each backbone and predictor; None where there is no such table.

    Args:
        described: settings that may share a table, see `alike.groups`.
        options: what stands behind ±.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors, backbones and data sets.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    if not described:
        return None
    check_alike(described, NAME)
    names, rule = names or {}, common_rule(described, rule)
    sets = list(dict.fromkeys(setting.dataset for setting, _ in described))
    several, marked = len(sets) > 1, Marked()
    columns = [Column(name, words.short(name, names), key={"dataset": name}) for name in sets]
    columns += [*([AVERAGE] if several else []), GAIN]
    metrics = {s.dataset: selections.metric for s, selections in described if selections.metric != ACCURACY}
    columns += [
        Column(f"{name}, {m.title}", f"{words.short(name, names)}, {m.title}", unit="%" if m.percent else "")
        for name, m in metrics.items()
    ]
    shown = methods_of(described)
    counted = has_plain_picks(described, shown, rule)
    protocol = described[0][0].protocol_class
    bound = cells.bound_by(rule, protocol.looks_at_target)

    def lines(parts: Described, predictor: str, block: str) -> list[Line]:
        methods = methods_of(parts, predictor)
        made = [_line(parts, sets, method, rule, options, names, metrics) for method in methods]
        rankings = [None if bound else _ranking(parts, name, rule, methods) for name in sets]
        for column, ranking in enumerate(rankings):
            made = marked.mark(made, methods, column, ranking, f"{sets[column]} ({block})")
        if several:
            made = marked.mark(made, methods, len(sets), over_sets(rankings), f"average ({block})")
        return with_picks(made, methods, parts, rule) if counted else made

    blocks = blocks_of(described, names, lines)
    own = [*marked.notes, words.INTERVAL, words.PLAIN_PICKS if counted else "", *_own_notes(described, sets)]
    own += [f"{m.title} is the metric of {name}; all is chosen and tested by accuracy." for name, m in metrics.items()]
    where = f" on {shared}" if (shared := words.what(described)) else ""
    caption = f"Accuracy (%) of methods{where}, averaged over {protocol.holdouts_in_words}."
    every = [*columns, *([PICKS] if counted else [])]
    return table_of(NAME, caption, every, blocks, described, rule, options, own, whole=True)


def _line(
    parts: Described,
    sets: Sequence[str],
    method: Method,
    rule: str,
    options: Options,
    names: Mapping[str, str],
    metrics: Mapping[str, Metric],
) -> Line:
    """Return the cells of a method: each data set, their average if there are several, what it gains over plain.

    And by the metric of each data set that has another than accuracy.
    """
    by_set = {setting.dataset: (setting, selections) for setting, selections in parts}
    numbers, gains = [], []
    for name in sets:
        number = gain = cells.Number(Cell(note="no result rows of this data set under this backbone"))
        if name in by_set:
            setting, selections = by_set[name]
            bound = cells.bound_by(rule, setting.protocol_class.looks_at_target)
            plain = cells.is_plain([selections], method, rule)
            number = cells.accuracy(selections, method, rule, options).of(bound, plain)
            gain = cells.gain(selections, method, rule, options).of(bound, plain)
        numbers.append((name, number))
        gains.append((name, gain))
    average = [cells.over_sets(numbers, options)] if len(sets) > 1 else []
    own = [*(number.cell for _, number in numbers), *average, cells.over_sets(gains, options)]
    for name, metric in metrics.items():
        found = metrics_of(by_set[name][1], rule, Lines()) if name in by_set else []
        value = next((one.of(metric) for one in found if one.method == method), None)
        own.append(cells.of_metric(value, metric, bound=own[sets.index(name)].bound))
    return line_of(method, own, names, cells.is_plain([selections for _, selections in parts], method, rule))


def _ranking(parts: Described, dataset: str, rule: str, methods: Sequence[Method]) -> Ranked | None:
    found = [ranking_of(selections, rule, methods) for setting, selections in parts if setting.dataset == dataset]
    return found[0] if found else None


def _own_notes(described: Described, sets: Sequence[str]) -> list[str]:
    """Return what the columns are."""
    several = len(sets) > 1
    average = (
        "Average: mean over data sets, each counting alike, with variances added and divided by their number squared."
    )
    over = "over data sets" if several else "over held-out environments"
    gain = f"− plain: mean difference {over} to plain prediction with the same predictor and images, in points."
    left_out = len(methods_of(described, every=True)) > len(methods_of(described))
    return [average if several else "", gain, _LEFT_OUT if left_out else ""]
