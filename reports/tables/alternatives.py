"""Ablations of what no rule chooses: the order of the eigenvectors, and the predictor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmark.method.evaluation.selection import RULES
from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method
from reports.analysis.options import Options
from reports.render.table import Block, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, by_backbone, check_alike, common_rule
from reports.tables.blocks import OF_FIXED, OF_FIXED_IN_WORDS, PICKS, has_plain_picks, methods_of, table_of, with_picks


def build_order(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return CLIP-ICM by the order of its eigenvectors, a block for each backbone and predictor.

    Args:
        described: settings of one data set that may share a table.
        options: what stands behind ±.
        rule: what chooses the rest; by default what is fair.
        names: long name -> short name of methods, predictors and backbones.

    Returns:
        The table; None where no predictor has two orders.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    shown = [m for m in methods_of(described) if m.projection == ICM and not m.variant]
    return _build(
        "ablation_order",
        "order of the eigenvectors",
        "Order",
        described,
        options,
        rule,
        names or {},
        shown,
        lambda method: method.predictor_label,
        lambda method: str(method.order),
    )


def build_predictor(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return plain prediction, CLIP-ICM and shrinkage by predictor; arguments, result, errors as of `build_order`."""
    shown = [m for m in methods_of(described) if m.projection in (PLAIN, ICM, SHRINKAGE) and not m.variant]
    return _build(
        "ablation_predictor",
        "predictor",
        "Predictor",
        described,
        options,
        rule,
        names or {},
        [m for m in shown if m.order != "released"],
        lambda method: words.short_name(method, names or {}),
        lambda method: method.predictor_label,
    )


def _build(
    name: str,
    what: str,
    corner: str,
    described: Described,
    options: Options,
    rule: str | None,
    names: Mapping[str, str],
    shown: Sequence[Method],
    title_of: Callable[[Method], str],
    name_of: Callable[[Method], str],
) -> Table | None:
    """Return a block for each backbone and title that has two methods or more, each called by its own name."""
    if not described or described[0][0].protocol_class.looks_at_target:
        return None
    check_alike(described, name)
    rule, backbones, blocks = RULES[common_rule(described, rule)].base, by_backbone(described), []
    counted = has_plain_picks(described, shown, rule)
    titles = list(dict.fromkeys(map(title_of, shown)))
    for backbone, parts in backbones.items():
        for title in titles:
            there = [m for m in shown if title_of(m) == title and m in parts[0][1].parts]
            lines = [_line(parts[0][1], m, rule, options, name_of(m), names) for m in there]
            lines = with_picks(lines, there, parts, rule) if counted else lines
            said = [words.short(backbone, names)] if len(backbones) > 1 else []
            said += [words.short(title, names)] if len(titles) > 1 else []
            block = Block(", ".join(said), tuple(lines), words.short(backbone, names))
            blocks += [block] if len(lines) > 1 else []
    columns = (*OF_FIXED, PICKS) if counted else OF_FIXED
    caption = f"{words.what(described)}: accuracy (%) by {what}, everything else chosen by the rule."
    own = [words.INTERVAL, OF_FIXED_IN_WORDS, words.PLAIN_PICKS if counted else ""]
    return table_of(name, caption, columns, blocks, described, rule, options, own, corner)


def _line(
    selections: Selections, method: Method, rule: str, options: Options, name: str, names: Mapping[str, str]
) -> Line:
    bound = cells.bound_by(rule, looks_at_target=False)
    plain = cells.is_plain([selections], method, rule)
    own = (
        cells.source_score(selections.picks(method, rule)),
        cells.accuracy(selections, method, rule, options).of(bound).cell,
        cells.gain(selections, method, rule, options).of(bound).cell,
    )
    return Line(name, tuple(replace(cell, equals_plain=plain) for cell in own), words.short(name, names), plain)
