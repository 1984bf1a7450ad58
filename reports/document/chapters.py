"""The chapters of the paper in its order: what stands in each, and what is not there and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.analysis.against import Check
from reports.document.digest import kind_of, of_one_predictor, of_one_split, over_backbones, over_data_sets
from reports.document.published import beside
from reports.document.scope import Family, Scope
from reports.figures import Figure
from reports.render.table import Table
from reports.text.published_table import table_of

_PUBLISHED = "published"
# Kind of a table -> what rows must have for it.
_TABLES = {
    "main": "two methods or more",
    "environments": "two methods or more",
    _PUBLISHED: "a data set of which something is published",
    "open_class": "two methods or more",
    "imagenet": "two methods or more",
    "ablation_lambda": "a method with two lambdas or more",
    "ablation_rank": "a method with two ranks or more",
    "ablation_interventions": "two sets of interventions on images",
    "ablation_text": "a set of interventions on texts beside another set",
    "cost": "--price AMOUNT, 0 for hours alone",
    "backbones": "two backbones or more",
    "trend": "three backbones or more",
    "over_data_sets": "two data sets or more",
    "ablation_order": "both orders",
}
_FIGURES = {
    "forest": "a method and plain prediction on the same images",
    "environments": "a method and plain prediction on the same images",
    "lambda_rank": "a method with several lambdas and ranks",
    "rank": "a method with two ranks or more",
    "spectrum": "a method with eigenvalues",
    "interventions": "a method that looks at interventions",
    "robustness": "eight backbones or more",
}
# Tables that are one in the paper where the report has one for each data set -> what it shows.
_OVER_DATA_SETS = {
    "ablation_lambda": "accuracy by lambda",
    "ablation_rank": "accuracy by rank",
    "ablation_interventions": "accuracy by set of interventions",
    "ablation_text": "accuracy by interventions on images, texts or both",
    "ablation_order": "accuracy by order of the eigenvectors",
}


@dataclass(frozen=True)
class Plan:
    """What a chapter has where rows let it.

    Attributes:
        title: its heading.
        tables: kinds of tables, in order.
        figures: kinds of figures, in order.
        family: protocols whose tables these are; None for those of all protocols.
        protocol: the protocol that makes such rows, where a family is given.
    """

    title: str
    tables: tuple[str, ...]
    figures: tuple[str, ...] = ()
    family: Family | None = None
    protocol: str = ""


@dataclass(frozen=True)
class Chapter:
    """A chapter as it is printed.

    Attributes:
        title: its heading.
        tables: in order, what is published of each first among its notes.
        figures: in order.
    """

    title: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


_PLANS = (
    Plan("Domain shift", ("main", "environments", _PUBLISHED), ("forest", "environments"), "shift", "held_out"),
    Plan("Open class", ("open_class",), (), "open", "open_class"),
    Plan("Domain shift and open class", ("open_class",), (), "both", "held_out_open_class"),
    Plan("ImageNet variants", ("imagenet", _PUBLISHED), (), "variants", "imagenet_shift"),
    Plan("Ablation: lambda", ("ablation_lambda",), ("lambda_rank",)),
    Plan("Ablation: rank", ("ablation_rank",), ("rank", "spectrum")),
    Plan("Ablation: interventions", ("ablation_interventions",), ("interventions",)),
    Plan("Ablation: interventions on texts", ("ablation_text",)),
    Plan("Cost", ("cost",)),
    Plan("Beside the paper", ("backbones", "trend", "over_data_sets", "ablation_order"), ("robustness",)),
)


def chapters(
    scope: Scope, tables: Sequence[Table], figures: Sequence[Figure], checks: Sequence[Check]
) -> tuple[list[Chapter], list[str]]:
    """Return the chapters that have anything, and a sentence for each on what is not there and what it takes.

    The last sentence names the tables that the report alone has.

    Args:
        scope: which settings the paper shows where it cannot show all.
        tables: all of a report but that of published accuracies, which every chapter has for itself.
        figures: those of the paper.
        checks: ours against what is published.
    """
    of_report = [one for one in tables if kind_of(one) != _PUBLISHED]
    made, absent, shown = [], [], []
    for plan in _PLANS:
        of_family = [one for one in checks if plan.family in (None, scope.family(one.ours.setting.protocol))]
        own = [one for one in of_report if plan.family in (None, scope.family(one.context.get("protocol", "")))]
        printed = [one for kind in plan.tables for one in _digest(kind, own, scope)]
        published = table_of(of_family) if _PUBLISHED in plan.tables else None
        more = (replace(published, name=f"{_PUBLISHED}-{plan.family}"),) if published else ()
        is_drawn = plan.family in (None, scope.drawn_family)
        drawn = tuple(one for kind in plan.figures for one in figures if is_drawn and kind_of(one) == kind)
        noted = [replace(one, notes=(*beside(one, of_family), *one.notes)) for one in printed]
        made += [Chapter(plan.title, (*noted, *more), drawn)] if printed or more or drawn else []
        shown += printed
        there = {*map(kind_of, (*printed, *more))}, {*map(kind_of, drawn)}
        lacking = [f"no table {kind} (it takes {_TABLES[kind]})" for kind in plan.tables if kind not in there[0]]
        lacking += [f"no figure {kind} (it takes {_FIGURES[kind]})" for kind in plan.figures if kind not in there[1]]
        if plan.family not in (None, *scope.families.values()):
            lacking = [f"there are no rows of protocol {plan.protocol}"]
        absent += [f"{plan.title}: {', '.join(lacking)}."] if lacking else []
    kinds = Counter(kind_of(one) for one in of_report if one not in shown)
    if kinds:
        named = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        absent.append(f"In the report's folder tables, whole and with every predictor and split: {named}.")
    return made, absent


def _digest(kind: str, tables: Sequence[Table], scope: Scope) -> list[Table]:
    """Return what the paper has of a kind of table: of one split, in one table where there are many."""
    shown = of_one_split([one for one in tables if kind_of(one) == kind])
    if kind == "environments":
        return over_backbones(shown, "accuracy by environment", scope.predictors)
    if kind in ("backbones", "over_data_sets"):
        return of_one_predictor(shown, scope.predictors)
    return over_data_sets(shown, _OVER_DATA_SETS[kind], scope.predictors) if kind in _OVER_DATA_SETS else shown
