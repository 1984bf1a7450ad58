"""All tables of a report that exist, in a fixed order, and those of the user's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import load
from reports.analysis.options import Options
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
from reports.tables.spec import Request, Scope, TableSpec

TABLES: tuple[TableSpec[Any], ...] = (
    main.TABLE,
    environments.TABLE,
    open_class.TABLE,
    imagenet.TABLE,
    backbones.TABLE,
    trend.TABLE,
    ablations.LAMBDA,
    ablations.RANK,
    interventions.IMAGES,
    interventions.TEXTS,
    alternatives.ORDER,
    alternatives.PREDICTOR,
    selection.TABLE,
    shift.TABLE,
    behind.TABLE,
    comparisons.OVER_SETS,
    comparisons.TABLE,
    cost.TABLE,
)


def paper_tables(
    described: Described,
    options: Options,
    rule: str | None = None,
    costs: Sequence[Mapping[str, Any]] = (),
    names: Mapping[str, str] | None = None,
) -> list[Table]:
    """Return the tables of a paper that the rows make: none of fewer than two lines, or without numbers.

    Settings that may not share a table have one each; what they differ in, or a number, stands behind its name.

    Args:
        described: settings, each with its rows, as `settings.by_setting` sorts them.
        options: what the reader asks for; `tables` names those of the user's own.
        rule: what chooses for everything; by default what is fair, see `alike.common_rule`.
        costs: what was measured, see `reports.tables.cost`; no table of it by default.
        names: long name -> short name of methods, projections, predictors, backbones, data sets and environments.

    Raises:
        IcmBenchError: the rule does not exist, a cost is incomplete, or a table of the user's own cannot be loaded, is
            none, or has the name of another.
    """
    scopes, tables = _scopes(described), []
    for spec in (*TABLES, *map(own_table, options.tables)):
        parts = scopes[spec.scope]
        made = (spec.build(Request(part, options, rule, names or {}, described, costs)) for part in parts)
        tables += words.named([one for one in made if one is not None])
    return tables


def own_table(name: str) -> TableSpec[Any]:
    """Return a table of the user's own.

    Args:
        name: the place of its spec, as "module:TABLE".

    Raises:
        PluginError: code that is not of this package is not to be imported.
        IcmBenchError: it cannot be loaded, is no `TableSpec`, or has the name of another table.
    """
    spec = load("table", name)
    if not isinstance(spec, TableSpec):
        raise IcmBenchError(f"The table '{name}' must be a reports.tables.spec.TableSpec, not {type(spec).__name__}.")
    if spec.name in {one.name for one in TABLES}:
        raise IcmBenchError(f"The table '{name}' is called '{spec.name}' as one of the report's own; rename it.")
    return spec


def _scopes(described: Described) -> dict[Scope, list[Described]]:
    """Return for each scope which settings share a table; see `spec.Scope`."""
    variants: list[Described] = []
    results: list[Described] = []
    single: list[Described] = []
    for group in groups(described):
        protocol = group[0][0].protocol_class
        if protocol.across_sets:  # environments are whole data sets
            variants += by_data_set(group).values()
        elif group[0][0].class_half == "all":
            single += [[one] for one in group]
            results += [] if protocol.looks_at_target else [group]
    return {
        "data sets": results,
        "setting": single,
        "open class": [*groups(described, halves=True)],
        "variants": variants,
        "data set": [*(part for group in results for part in by_data_set(group).values()), *variants],
        "report": [described],
    }
