"""All tables of a report that exist, in a fixed order, and those of the user's own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import in_words, where
from benchmark.common.registry import load
from reports.analysis.chosen import SettingResults
from reports.analysis.settings import Options
from reports.render.table import Table
from reports.tables import ablations, backbones, behind, cost, environments, main, words
from reports.tables.spec import Request, Scope, TableSpec, by_data_set, groups

TABLES: tuple[TableSpec[Any], ...] = (
    main.TABLE, environments.TABLE, main.OPEN_CLASS, main.IMAGENET, backbones.TABLE, backbones.TREND,
    ablations.LAMBDA, ablations.RANK, ablations.IMAGES, ablations.TEXTS, ablations.ORDER, ablations.PREDICTOR,
    behind.SELECTION, behind.SHIFT, behind.TABLE, main.OVER_SETS, main.COMPARISONS, cost.TABLE,
)  # fmt: skip

# Other files of the folder of tables.
_TAKEN = {"accuracies", "against_published", "all", "controls", "differences", "findings", "metrics", "per_class",
          "picks", "published", "verdicts"}  # fmt: skip


def paper_tables(
    described: Sequence[SettingResults],
    options: Options,
    costs: Sequence[Mapping[str, Any]] = (),
    names: Mapping[str, str] | None = None,
) -> list[Table]:
    """Return the tables of a paper that the rows make: none of fewer than two lines, or without numbers.

    Settings that may not share a table have one each; what they differ in, or a number, stands behind its name.

    Args:
        described: settings, each with its rows, as `settings.by_setting` sorts them.
        options: what the reader asks for; `tables` names those of the user's own.
        costs: what was measured, see `reports.tables.cost`; no table of it by default.
        names: long name -> short name of methods, projections, predictors, backbones, data sets and environments.

    Raises:
        IcmBenchError: a cost is incomplete, or a table of the user's own cannot be loaded, is none, has the name of
            another, or fails.
    """
    scopes, own, tables = _scopes(described), own_tables(options.tables), list[Table]()
    for spec in (*TABLES, *own):
        parts = scopes[spec.scope]
        try:
            made = [spec.build(Request(part, options, None, names or {}, described, costs)) for part in parts]
        except Exception as error:
            if spec not in own or isinstance(error, IcmBenchError):
                raise
            at = f"{in_words(error)} at {where(error)}"
            raise IcmBenchError(f"The table '{spec.name}' cannot be made: {at}; mend it and run again.") from error
        tables += words.named([one for one in made if one is not None])
    return tables


def own_tables(names: Sequence[str]) -> list[TableSpec[Any]]:
    """Return tables of the user's own.

    Raises:
        PluginError: code that is not of this package is not to be imported.
        IcmBenchError: one cannot be loaded, is no `TableSpec`, or has no name or scope of its own; says which.
    """
    specs: list[TableSpec[Any]] = []
    for name in names:
        spec = load("table", name, asked=True)
        if not isinstance(spec, TableSpec):
            raise IcmBenchError(f"The table '{name}' must be a reports.tables.TableSpec, not {type(spec).__name__}.")
        if spec.scope not in get_args(Scope):
            raise IcmBenchError(f"The table '{name}' has the scope '{spec.scope}'; take one of {get_args(Scope)}.")
        if not re.fullmatch(r"[A-Za-z]\w*", spec.name, re.ASCII):
            raise IcmBenchError(f"The table '{name}' is called '{spec.name}'; take a letter, then letters and digits.")
        if spec.name in {*_TAKEN, *(one.name for one in (*TABLES, *specs))}:
            raise IcmBenchError(f"The table '{name}' is called '{spec.name}', as another file is; rename it.")
        specs.append(spec)
    return specs


def _scopes(described: Sequence[SettingResults]) -> Mapping[Scope, Sequence[Sequence[SettingResults]]]:
    """Return for each scope which settings share a table; see `spec.Scope`."""
    every = [(group[0][0].protocol_class, group) for group in groups(described)]
    # Of variants, environments are whole data sets.
    variants = [part for of, group in every if of.across_sets for part in by_data_set(group).values()]
    whole = [(of, group) for of, group in every if group[0][0].class_half == "all" and not of.across_sets]
    results = [group for of, group in whole if not of.looks_at_target]
    return {
        "data sets": results,
        "setting": [[one] for _, group in whole for one in group],
        "open class": [*groups(described, halves=True)],
        "variants": variants,
        "data set": [*(part for group in results for part in by_data_set(group).values()), *variants],
        "report": [described],
    }
