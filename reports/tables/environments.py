"""One data set under one backbone: methods by held-out environments, their average and the worst of them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmark.method.evaluation.selection import RULES
from reports.analysis.chosen import Selections
from reports.analysis.methods import Method
from reports.analysis.options import Options
from reports.analysis.placebos import accuracies_of
from reports.analysis.settings import Setting
from reports.analysis.whole import whole_estimate
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, check_alike, common_rule
from reports.tables.blocks import (
    PICKS,
    Marked,
    block_of,
    blocks_of,
    has_plain_picks,
    line_of,
    methods_of,
    ranking_of,
    table_of,
    with_picks,
)

NAME = "environments"
AVERAGE, WORST = Column("average", "Average", key={"held_out": ""}), Column("worst environment", "Worst")
SHIFT = Column("shift costs", "Shift costs †", unit="points")


def build(
    described: Described,
    options: Options,
    rule: str | None = None,
    names: Mapping[str, str] | None = None,
    in_domain: Selections | None = None,
) -> Table | None:
    """Return methods, placebos and parts of methods among them, by held-out environments; None with one environment.

    Args:
        described: the one setting.
        options: what stands behind ±.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors and environments.
        in_domain: rows of a protocol that fits on the tested environments themselves, on the same data and backbone;
            with it there is a column of what the shift costs.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    if not described:
        return None
    check_alike(described, NAME)
    setting, selections = described[0]
    if rule is None and setting.protocol_class.looks_at_target:  # sources may leave nothing to choose by
        rule = rule_in_domain(selections)
    names, rule, marked = names or {}, common_rule(described, rule), Marked()
    held_outs = selections.held_outs
    if len(held_outs) < 2:
        return None
    bound = cells.bound_by(rule, setting.protocol_class.looks_at_target)
    shift = in_domain if not bound else None
    counted = has_plain_picks(described, methods_of(described, every=True), rule)

    def lines(parts: Described, predictor: str, block: str) -> list[Line]:
        methods = methods_of(parts, predictor, every=True)
        made = [_line(setting, selections, m, rule, options, names, shift) for m in methods]
        if not bound:
            made = marked.mark(
                made, methods, len(held_outs), ranking_of(selections, rule, methods), f"average ({block})"
            )
        made = with_picks(made, methods, parts, rule) if counted else made
        draws = [] if RULES[rule].looks_at_target else _draws(selections, predictor, rule, names, made)
        placed = [*zip(methods, made, strict=True), *draws]
        return [line for _, line in sorted(placed, key=lambda item: item[0].place)]

    columns = [Column(name, words.short(name, names), key={"held_out": name}) for name in held_outs]
    columns += [AVERAGE, WORST]
    columns += [*([SHIFT] if shift else []), *([PICKS] if counted else [])]
    blocks = blocks_of(described, names, lines, every=True)
    own = [*marked.notes, words.INTERVAL, _shift_words(shift), words.PLAIN_PICKS if counted else ""]
    own += [_DRAWS] if selections.draws else []
    caption = f"{words.what(described)}: accuracy (%) by {setting.protocol_class.holdouts_in_words}."
    return table_of(NAME, caption, columns, blocks, described, rule, options, own, whole=True)


_DRAWS = "Placebos of several draws: means over draws, without ±, since they share their images; not ranked."


def _line(
    setting: Setting,
    selections: Selections,
    method: Method,
    rule: str,
    options: Options,
    names: Mapping[str, str],
    shift: Selections | None,
) -> Line:
    bound = cells.bound_by(rule, setting.protocol_class.looks_at_target)
    plain = cells.is_plain([selections], method, rule)
    held_outs = selections.held_outs
    single = [cells.accuracy(selections, method, rule, options, name).of(bound).cell for name in held_outs]
    average = cells.accuracy(selections, method, rule, options).of(bound)
    more = [_shift(selections, shift, method, rule, options, average)] if shift else []
    return line_of(method, [*single, average.cell, _worst(held_outs, single), *more], names, plain)


def _worst(names: list[str], single: list[Cell]) -> Cell:
    """Return the lowest of the environments' cells; a gap where one of them is one."""
    missing = [name for name, cell in zip(names, single, strict=True) if cell.value is None]
    if missing:
        return Cell(note=f"nothing for {', '.join(missing)}", bound=single[0].bound)
    return min(single, key=lambda cell: cell.value or 0.0)


def rule_in_domain(selections: Selections) -> str:
    """Return what chooses for fits on the tested environment: what is fair where that has scores, else `oracle`."""
    return selections.rule if RULES[selections.rule] in selections.rules else "oracle"


def _shift(
    selections: Selections, in_domain: Selections, method: Method, rule: str, options: Options, average: cells.Number
) -> Cell:
    """Return what the shift costs a method, in points; with ± where both are tested on the same images."""
    own_rule = rule_in_domain(in_domain)
    within = cells.accuracy(in_domain, method, own_rule, options)
    if within.cell.value is None or average.cell.value is None or within.estimate is None or average.estimate is None:
        return Cell(note="no rows of protocol in_domain for all that is held out", bound=True)
    estimate = whole_estimate(selections, in_domain.pooled(method, own_rule), selections.pooled(method, rule))
    if estimate is not None and estimate.seeds == within.estimate.seeds == average.estimate.seeds:
        return replace(cells.cell_of([estimate], options), bound=True)
    difference = within.cell.value - average.cell.value
    return Cell(value=difference, seeds=average.cell.seeds, bound=True, signed=True)


def _shift_words(in_domain: Selections | None) -> str:
    if in_domain is None:
        return ""
    return (
        "Shift costs †: average accuracy of fits on the tested environment itself (protocol in_domain, rule "
        f"{rule_in_domain(in_domain)}) minus the average: a bound, no result."
    )


def _draws(
    selections: Selections, predictor: str, rule: str, names: Mapping[str, str], made: list[Line]
) -> list[tuple[Method, Line]]:
    """Return a line for each placebo with several draws: means over draws."""
    width, lines = len(made[0].cells) if made else 0, []
    for method, draws in selections.draws.items():
        if block_of(method) != predictor or not width:
            continue
        found = [of_draw for draw in draws if (of_draw := accuracies_of(selections, draw, rule)) is not None]
        note = f"{len(found)} of {len(draws)} draws" if len(found) < len(draws) else None
        means = 100 * np.mean(found, axis=0) if found else np.array([])
        values = [*means.tolist(), float(means.mean()), float(means.min())] if found else []
        seeds = tuple(selections.seeds)
        own = [Cell(value=value, seeds=seeds, note=note) for value in values]
        own += [Cell(note=note or "of single draws alone")] * (width - len(own))
        lines.append((method, line_of(method, own, names)))
    return lines
