"""All built-in tables of a report in a fixed order, and the user's own tables. `reports.build` calls `paper_tables`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import in_words, where
from benchmark.common.registry import load
from reports.analysis.selections import SettingResults
from reports.analysis.settings import Options
from reports.render.table import Table
from reports.tables import ablations, backbones, behind, cost, environments, main, words
from reports.tables.spec import Request, Scope, TableSpec, by_data_set, groups

# A new table also needs its name in docs/report.md. If the paper shows the table, `_PLANS` and `_NEEDS` of
# reports/document/paper.py need the name too.
TABLES: tuple[TableSpec[Any], ...] = (
    main.TABLE, environments.TABLE, main.OPEN_CLASS, main.IMAGENET, backbones.TABLE, backbones.TREND,
    ablations.LAMBDA, ablations.RANK, ablations.IMAGES, ablations.TEXTS, ablations.ORDER, ablations.PREDICTOR,
    ablations.LEARNING_CURVE,
    behind.SELECTION, behind.SHIFT, behind.TABLE, main.OVER_SETS, main.COMPARISONS, cost.TABLE,
)  # fmt: skip

# Names of the other files in the folder `tables`, most of them from `_records` of reports/build.py.
_TAKEN = {"accuracies", "against_published", "all", "controls", "differences", "findings", "metrics", "per_class",
          "picks", "published", "verdicts"}  # fmt: skip


def paper_tables(
    results: Sequence[SettingResults],
    options: Options,
    costs: Sequence[Mapping[str, Any]] = (),
    names: Mapping[str, str] | None = None,
) -> list[Table]:
    """Return all tables that the rows support. Tables with fewer than two lines or without numbers are left out.

    Settings that cannot share a table get a table each. The names of these tables end with the fields in which they
    differ, or with a number.

    Args:
        results: settings, each with its rows, in the order of `settings.by_setting`.
        options: options of the report; `tables` names the user's own tables.
        costs: measured costs, see `reports.tables.cost`; by default none.
        names: long name -> short name of methods, projections, predictors, backbones, data sets and environments.

    Raises:
        IcmBenchError: a cost is incomplete, or a user's own table cannot be loaded, is not a `TableSpec`, has a name
            that is taken, or fails.
    """
    scopes, own, tables = _scopes(results), own_tables(options.tables), list[Table]()
    for spec in (*TABLES, *own):
        parts = scopes[spec.scope]
        try:
            made = [spec.build(Request(part, options, None, names or {}, results, costs)) for part in parts]
        except Exception as error:
            if spec not in own or isinstance(error, IcmBenchError):
                raise
            at = f"{in_words(error)} at {where(error)}"
            raise IcmBenchError(f"The table '{spec.name}' cannot be made: {at}; fix it and run again.") from error
        tables += words.named([one for one in made if one is not None])
    return tables


def own_tables(names: Sequence[str]) -> list[TableSpec[Any]]:
    """Return the user's own tables, each named as "module:TABLE".

    Raises:
        PluginError: plug-in code is not allowed.
        IcmBenchError: a table cannot be loaded, is not a `TableSpec`, or has an invalid or taken name or scope.
    """
    specs: list[TableSpec[Any]] = []
    for name in names:
        spec = load("table", name, asked=True)
        if not isinstance(spec, TableSpec):
            raise IcmBenchError(f"The table '{name}' must be a reports.tables.TableSpec, not {type(spec).__name__}.")
        if spec.scope not in get_args(Scope):
            raise IcmBenchError(f"The table '{name}' has the scope '{spec.scope}'; use one of {get_args(Scope)}.")
        if not re.fullmatch(r"[A-Za-z]\w*", spec.name, re.ASCII):
            raise IcmBenchError(f"The table '{name}' is called '{spec.name}'; use a letter, then letters and digits.")
        if spec.name in {*_TAKEN, *(one.name for one in (*TABLES, *specs))}:
            raise IcmBenchError(f"The table '{name}' is called '{spec.name}', the name of another file; rename it.")
        specs.append(spec)
    return specs


def _scopes(results: Sequence[SettingResults]) -> Mapping[Scope, Sequence[Sequence[SettingResults]]]:
    """Return, for each `spec.Scope`, the groups of settings that share a table."""
    every = [(group[0][0].protocol_class, group) for group in groups(results)]
    # Under such a protocol (ImageNet variants), each environment is a whole data set.
    variants = [part for of, group in every if of.across_sets for part in by_data_set(group).values()]
    whole = [(of, group) for of, group in every if group[0][0].class_half == "all" and not of.across_sets]
    fair_groups = [group for of, group in whole if not of.looks_at_target]
    return {
        "data sets": fair_groups,
        "setting": [[one] for _, group in whole for one in group],
        "open class": [*groups(results, halves=True)],
        "variants": variants,
        "data set": [*(part for group in fair_groups for part in by_data_set(group).values()), *variants],
        "report": [results],
    }
