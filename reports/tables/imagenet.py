"""ImageNet and its shifted variants: each variant, and the average of the shifts."""

from collections.abc import Mapping

from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.whole import mean_beside
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, check_alike, common_rule
from reports.tables.blocks import Marked, blocks_of, line_of, methods_of, ranking_of, table_of

NAME = "imagenet"
SHORT = {"ImageNetV2": "V2", "ImageNet-R": "R", "ImageNet-A": "A", "ImageNet-Sketch": "Sketch"}
AVERAGE = Column("average of shifts", "Average of shifts", key={"held_out": ""})
_SOURCE = (
    "IN: on images of ImageNet that the fit has not seen, those by which training_domain chooses; the other columns "
    "are tested on all images of a variant."
)


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return methods by variants, of settings whose protocol is across data sets; None without them.

    Args:
        described: settings that may share a table, of one source.
        options: what stands behind ±.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors, backbones and variants.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    described = [one for one in described if one[0].protocol_class.across_sets]
    if not described:
        return None
    check_alike(described, NAME)
    names, rule, marked = SHORT | dict(names or {}), common_rule(described, rule), Marked()
    there = {name for _, selections in described for name in selections.held_outs}
    variants = [*(name for name in SHORT if name in there), *sorted(there - SHORT.keys())]
    source = Column(described[0][0].dataset, "IN")
    columns = [source, *(Column(name, words.short(name, names), key={"held_out": name}) for name in variants), AVERAGE]

    def lines(parts: Described, predictor: str, block: str) -> list[Line]:
        methods, selections = methods_of(parts, predictor), parts[0][1]
        made = [_line(selections, variants, method, rule, options, names) for method in methods]
        if cells.bound_by(rule, looks_at_target=False):
            return made
        ranking = ranking_of(selections, rule, methods)
        return marked.mark(made, methods, len(variants) + 1, ranking, f"average of shifts ({block})")

    blocks = blocks_of(described, names, lines)
    where = f" under {shared.partition(', ')[2]}" if ", " in (shared := words.what(described)) else ""
    caption = f"Accuracy (%) on ImageNet and its shifted variants{where}."
    own = [*marked.notes, _SOURCE]
    return table_of(NAME, caption, columns, blocks, described, rule, options, own, whole=True)


def _line(
    selections: Selections, variants: list[str], method: Method, rule: str, options: Options, names: Mapping[str, str]
) -> Line:
    bound = cells.bound_by(rule, looks_at_target=False)
    own = [_source(selections, method, rule)]
    own += [cells.accuracy(selections, method, rule, options, name).of(bound).cell for name in variants]
    own.append(cells.accuracy(selections, method, rule, options).of(bound).cell)
    return line_of(method, own, names, cells.is_plain([selections], method, rule))


def _source(selections: Selections, method: Method, rule: str) -> Cell:
    if method not in selections.parts:
        return Cell(note="no result rows of this method")
    accuracy = 100 * mean_beside(selections.picks(method, rule), "training_domain")
    return cells.known(accuracy, "no accuracy on the source at what was picked")
