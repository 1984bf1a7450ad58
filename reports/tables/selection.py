"""What choosing by sources alone costs: each rule's accuracy, and how far it is below labels of what is tested."""

from collections.abc import Mapping

from benchmark.method.evaluation.selection import RULES, SOURCE_RULES
from reports.analysis.metrics import ORACLE, SelectionCost, selection_costs
from reports.analysis.options import Options
from reports.render.table import Cell, Column, Line, Table
from reports.tables import words
from reports.tables.alike import Described, check_alike
from reports.tables.blocks import block_of, blocks_of, is_contender, line_of, table_of
from reports.text.captions import oracle_words

NAME = "selection"


def build(described: Described, options: Options, names: Mapping[str, str] | None = None) -> Table | None:
    """Return methods with something to choose by rules, with the gap to the oracle; None where none has a choice.

    Args:
        described: settings of one data set that may share a table.
        options: what the reader asks for.
        names: long name -> short name of methods, predictors and backbones.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    described = [one for one in described if not one[0].protocol_class.looks_at_target]
    if not described:
        return None
    check_alike(described, NAME)
    names = names or {}
    costs = {setting: selection_costs(selections) for setting, selections in described}

    def lines(parts: Described, predictor: str, _: str) -> list[Line]:
        shown = [one for one in costs[parts[0][0]] if is_contender(one.method)]
        return [line_of(one.method, _cells(one), names) for one in shown if block_of(one.method) == predictor]

    columns = [Column(f"{rule}{' †' if RULES[rule].looks_at_target else ''}") for rule in RULES]
    columns += [Column(f"{ORACLE} − {rule} †", unit="points") for rule in SOURCE_RULES]
    own = [
        f"† looks at labels of what is tested: no result. oracle: {oracle_words(described[0][0])}. ceiling: highest of "
        "the accuracies that are reported, a bound, biased upwards. The gap to the oracle, which may be negative, is "
        "what these labels would be worth, with its standard error."
    ]
    if (metric := described[0][1].metric).needs != "correct":
        own.append(f"oracle and ceiling are by accuracy: for {metric.title} rows keep no {metric.needs} there.")
    caption = f"{words.what(described)}: accuracy (%) by what each selection rule chooses, and its gap to the oracle."
    return table_of(NAME, caption, columns, blocks_of(described, names, lines), described, None, options, own)


def _cells(cost: SelectionCost) -> list[Cell]:
    none = "not all that is held out has answers under this rule"
    own = [
        Cell(
            value=cost.accuracies.get(rule), note=None if rule in cost.accuracies else none, bound=known.looks_at_target
        )
        for rule, known in RULES.items()
    ]
    for rule in SOURCE_RULES:
        points, error = cost.gaps.get(rule, (None, None))
        own.append(Cell(value=points, error=error, signed=True, bound=True, note=None if rule in cost.gaps else none))
    return own
