"""All tables of a report that exist, in a fixed order."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.analysis.chosen import Selections
from reports.analysis.options import Options
from reports.analysis.settings import Setting
from reports.render.table import Table
from reports.tables import (
    ablations,
    alternatives,
    backbones,
    behind,
    comparisons,
    cost,
    environments,
    imagenet,
    interventions,
    main,
    open_class,
    selection,
    shift,
    trend,
    words,
)
from reports.tables.alike import Described, by_data_set, groups

_OF_ONE_SET = (
    ablations.build_lambda,
    ablations.build_rank,
    interventions.build,
    interventions.build_text,
    alternatives.build_order,
    alternatives.build_predictor,
)


def paper_tables(
    described: Described,
    options: Options,
    rule: str | None = None,
    costs: Sequence[Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
    price: float | None = None,
) -> list[Table]:
    """Return the tables of a paper that the rows make: none of fewer than two lines, or without numbers.

    Settings that may not share a table have one each; what they differ in, or a number, stands behind its name.

    Args:
        described: settings, each with its rows, as `settings.by_setting` sorts them.
        options: what the reader asks for.
        rule: what chooses for everything; by default what is fair, see `alike.common_rule`.
        costs: what was measured, see `cost.build`; no table of it by default.
        names: long name -> short name of methods, projections, predictors, backbones, data sets and environments.
        price: of an hour, see `cost.build`.

    Raises:
        IcmBenchError: the rule does not exist, or a cost is incomplete.
    """
    apart, halves = groups(described), groups(described, halves=True)
    shifted = [part for group in apart if _across(group) for part in by_data_set(group).values()]
    others = [group for group in apart if not _across(group) and group[0][0].class_half == "all"]
    results = [group for group in others if not group[0][0].protocol_class.looks_at_target]
    of_one_set = [part for group in results for part in by_data_set(group).values()]
    single = [one for group in others for one in group]
    made: list[list[Table | None]] = [
        [main.build(group, options, rule, names) for group in results],
        [environments.build([one], options, rule, names, _in_domain(one, described)) for one in single],
        [open_class.build(group, options, rule, names) for group in halves],
        [imagenet.build(part, options, rule, names) for part in shifted],
        [backbones.build(group, options, rule, names) for group in results],
        [trend.build(group, options, rule, names) for group in results],
        *([build(part, options, rule, names) for part in [*of_one_set, *shifted]] for build in _OF_ONE_SET),
        [selection.build(part, options, names) for part in [*of_one_set, *shifted]],
        [shift.build(part, options, rule, names) for part in [*of_one_set, *shifted]],
        [behind.build(part, options, rule, names) for part in [*of_one_set, *shifted]],
        [comparisons.build(group, options, rule, names) for group in results if len(by_data_set(group)) > 1],
        [comparisons.build(part, options, rule, names) for part in [*of_one_set, *shifted]],
        [cost.build(described, costs, options, names, price) if costs and described else None],
    ]
    return [table for of_kind in made for table in words.named([one for one in of_kind if one is not None])]


def _across(group: Described) -> bool:
    """Say whether environments are whole data sets."""
    return group[0][0].protocol_class.across_sets


def _in_domain(one: tuple[Setting, Selections], described: Described) -> Selections | None:
    """Return the rows that fit on the tested environments themselves, on the same data and backbone, if there are."""
    setting, selections = one
    names = selections.held_outs
    for other, candidate in described:
        same = other.data_and_backbone == setting.data_and_backbone and other.protocol_class.looks_at_target
        if same and candidate.held_outs == names:
            return candidate
    return None
