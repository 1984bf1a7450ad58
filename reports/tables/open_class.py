"""Base classes, new classes and the harmonic mean of both, side by side for each data set."""

from collections.abc import Mapping, Sequence

from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_data_set, check_alike, common_rule
from reports.tables.blocks import Marked, blocks_of, line_of, methods_of, over_sets, ranking_of, table_of

NAME = "open_class"
HALVES = {"base": "Base", "new": "New", "harmonic": "H"}
_HARMONIC = "H: harmonic mean of the accuracies on base and on new classes, in each environment, then averaged."


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return methods by data sets, each with base, new and H; None where no protocol of open classes has rows.

    Predictors that never predict a class without training images have no lines.

    Args:
        described: settings that may share a table with halves side by side, see `alike.groups`.
        options: what stands behind ±.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors, backbones and data sets.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    described = [(setting, selections) for setting, selections in described if setting.class_half in HALVES]
    if not described:
        return None
    check_alike(described, NAME, halves=True)
    names, rule, marked = names or {}, common_rule(described, rule), Marked()
    sets = list(by_data_set(described))
    columns = [
        Column(f"{name}, {half}", short, words.short(name, names), key={"dataset": name, "class_half": half})
        for name in sets
        for half, short in HALVES.items()
    ]
    if len(sets) > 1:
        columns += [Column(f"average, {half}", short, "Average over data sets") for half, short in HALVES.items()]

    def lines(parts: Described, predictor: str, block: str) -> list[Line]:
        methods = [m for m in methods_of(parts, predictor) if not m.learns_classes]
        made = [_line(parts, sets, method, rule, options, names) for method in methods]
        if cells.bound_by(rule, parts[0][0].protocol_class.looks_at_target):
            return made
        for place, half in enumerate(HALVES):
            found = [_of(parts, name, half) for name in sets]
            rankings = [ranking_of(one[1], rule, methods) if one else None for one in found]
            for number, (name, ranking) in enumerate(zip(sets, rankings, strict=True)):
                where = f"{name}, {half} ({block})"
                made = marked.mark(made, methods, 3 * number + place, ranking, where)
            if len(sets) > 1:
                average = f"average, {half} ({block})"
                made = marked.mark(made, methods, 3 * len(sets) + place, over_sets(rankings), average)
        return made

    blocks = blocks_of(described, names, lines)
    learnt = dict.fromkeys(m.of_predictor.label for m in methods_of(described) if m.learns_classes)
    left_out = f"Left out, since they never predict a class that they had no training image of: {', '.join(learnt)}."
    own = [*marked.notes, _HARMONIC, left_out if learnt else ""]
    where = f" on {shared}" if (shared := words.what(described)) else ""
    caption = f"Accuracy (%){where} on base classes, new classes, and their harmonic mean (H)."
    return table_of(NAME, caption, columns, blocks, described, rule, options, own, whole=True)


def _of(parts: Described, dataset: str, half: str) -> tuple[Setting, Selections] | None:
    """Return the setting of a data set and a half of the classes."""
    return next((one for one in parts if (one[0].dataset, one[0].class_half) == (dataset, half)), None)


def _line(
    parts: Described, sets: Sequence[str], method: Method, rule: str, options: Options, names: Mapping[str, str]
) -> Line:
    numbers: dict[str, list[tuple[str, cells.Number]]] = {half: [] for half in HALVES}
    own: list[Cell] = []
    for name in sets:
        for half, of_half in numbers.items():
            number = cells.Number(Cell(note="no result rows of this data set under this backbone"))
            if found := _of(parts, name, half):
                setting, selections = found
                bound = cells.bound_by(rule, setting.protocol_class.looks_at_target)
                plain = cells.is_plain([selections], method, rule)
                number = cells.accuracy(selections, method, rule, options).of(bound, plain)
            of_half.append((name, number))
            own.append(number.cell)
    if len(sets) > 1:
        own += [cells.over_sets(of_half, options) for of_half in numbers.values()]
    return line_of(method, own, names, cells.is_plain([selections for _, selections in parts], method, rule))
