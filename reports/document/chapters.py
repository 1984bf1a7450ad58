"""The chapters of the paper in its order: what stands in each, why something is not there, what stays in the report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reports.analysis.against import Check
from reports.document.digest import kind_of, of_one_predictor, of_one_split, over_backbones, over_data_sets
from reports.document.published import beside
from reports.document.scope import Family, Scope
from reports.figures import Figure
from reports.render.table import Table
from reports.text.published_table import table_of


@dataclass(frozen=True)
class Wanted:
    """A kind of table or figure that a chapter has.

    Attributes:
        kind: its name, without what tells several of a kind apart.
        what: it shows, in words.
        takes: what rows must have for it, in words that follow "it takes".
        over: what stands together in one table of the paper where the report has a table for each; "predictors" where
            the first of these stands for all; empty where the report's own tables are printed.
    """

    kind: str
    what: str
    takes: str
    over: Literal["", "backbones", "data sets", "predictors"] = ""


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
    tables: tuple[Wanted, ...]
    figures: tuple[Wanted, ...] = ()
    family: Family | None = None
    protocol: str = ""


@dataclass(frozen=True)
class Chapter:
    """A chapter as it is printed.

    Attributes:
        title: its heading.
        absent: sentences on tables and figures that are not there, each with the reason, and on what is in the report.
        tables: in order, what is published of each first among its notes.
        figures: in order.
    """

    title: str
    absent: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


_PUBLISHED = Wanted("published", "ours beside published accuracies", "a data set of which something is published")
_OPEN = Wanted("open_class", "accuracy on base and on new classes", "two methods or more")
_LINES = "two methods or more"
_PLANS = (
    Plan(
        "Domain shift",
        (
            Wanted("main", "accuracy by data set", _LINES),
            Wanted("environments", "accuracy by environment", _LINES, "backbones"),
            _PUBLISHED,
        ),
        (
            Wanted("forest", "methods minus baselines", "a method and plain prediction on the same images"),
            Wanted("environments", "gains by environment", "a method and plain prediction on the same images"),
        ),
        "shift",
        "held_out",
    ),
    Plan("Open class", (_OPEN,), (), "open", "open_class"),
    Plan("Domain shift and open class", (_OPEN,), (), "both", "held_out_open_class"),
    Plan(
        "ImageNet variants",
        (Wanted("imagenet", "accuracy by variant", _LINES), _PUBLISHED),
        (),
        "variants",
        "imagenet_shift",
    ),
    Plan(
        "Ablation: lambda",
        (Wanted("ablation_lambda", "accuracy by lambda", "a method with two lambdas or more", "data sets"),),
        (Wanted("lambda_rank", "accuracy by lambda and rank", "a method with several lambdas and ranks"),),
    ),
    Plan(
        "Ablation: rank",
        (Wanted("ablation_rank", "accuracy by rank", "a method with two ranks or more", "data sets"),),
        (
            Wanted("rank", "gain by rank", "a method with two ranks or more"),
            Wanted("spectrum", "eigenvalues", "a method with eigenvalues"),
        ),
    ),
    Plan(
        "Ablation: interventions",
        (
            Wanted(
                "ablation_interventions",
                "accuracy by set of interventions",
                "two sets of interventions on images",
                "data sets",
            ),
        ),
        (
            Wanted("interventions", "what interventions move and gain", "a method that looks at interventions"),
            Wanted("pairs", "gain by share of the pairs", "sets with shares of the pairs"),
        ),
    ),
    Plan(
        "Ablation: interventions on texts",
        (
            Wanted(
                "ablation_text",
                "accuracy by interventions on images, texts or both",
                "a set of interventions on texts beside another set",
                "data sets",
            ),
        ),
    ),
    Plan("Cost", (Wanted("cost", "what embeddings and trials cost", "`--price AMOUNT`, 0 for hours alone"),)),
    Plan(
        "Beside the paper",
        (
            Wanted("backbones", "gain by backbone", "two backbones or more", "predictors"),
            Wanted("trend", "gain against accuracy over backbones", "three backbones or more"),
            Wanted("over_data_sets", "differences over data sets", "two data sets or more", "predictors"),
            Wanted("ablation_order", "accuracy by order of the eigenvectors", "both orders", "data sets"),
        ),
        (Wanted("robustness", "effective robustness", "eight backbones or more"),),
    ),
)


def chapters(
    scope: Scope, tables: Sequence[Table], figures: Sequence[Figure], checks: Sequence[Check]
) -> list[Chapter]:
    """Return all chapters: of each kind of table and figure what the paper has of it, and what stays in the report.

    Args:
        scope: which settings the paper shows where it cannot show all.
        tables: all of a report but that of published accuracies, which every chapter has for itself.
        figures: those of the paper.
        checks: ours against what is published.
    """
    rest = [one for one in tables if kind_of(one) != _PUBLISHED.kind]
    made = []
    for plan in _PLANS:
        of_family = [one for one in checks if plan.family in (None, scope.family(one.ours.setting.protocol))]
        own = [one for one in rest if plan.family in (None, scope.family(one.context.get("protocol", "")))]
        published = _published(plan, of_family)
        found = [(wanted, [one for one in own if kind_of(one) == wanted.kind]) for wanted in plan.tables]
        taken = [one for _, of_kind in found for one in of_kind]
        rest = [one for one in rest if one not in taken]
        printed = [one for wanted, of_kind in found for one in _digest(wanted, of_kind, scope)]
        is_drawn = plan.family in (None, scope.drawn_family)
        of_chapter = [one for wanted in plan.figures for one in figures if is_drawn and kind_of(one) == wanted.kind]
        has_rows = plan.family is None or plan.family in scope.families
        left = [one for one in taken if one not in printed] + (rest if plan is _PLANS[-1] else [])
        said = [
            *_absent(plan, "table", plan.tables, [*printed, *published], has_rows),
            *_absent(plan, "figure", plan.figures, of_chapter, has_rows),
            *_left(left),
        ]
        noted = [replace(one, notes=(beside(one, of_family, bool(published)), *one.notes)) for one in printed]
        made.append(Chapter(plan.title, tuple(said), (*noted, *published), tuple(of_chapter)))
    return made


def _digest(wanted: Wanted, tables: Sequence[Table], scope: Scope) -> list[Table]:
    """Return what the paper has of a kind of table: of one split, in one table where there are many."""
    shown = of_one_split(tables)
    if wanted.over == "backbones":
        return over_backbones(shown, wanted.what, scope.predictors)
    if wanted.over == "predictors":
        return of_one_predictor(shown, scope.predictors)
    return over_data_sets(shown, wanted.what, scope.predictors) if wanted.over else shown


def _published(plan: Plan, checks: Sequence[Check]) -> list[Table]:
    """Return the table of a chapter that has one: in which ours stand beside published accuracies."""
    table = table_of(checks) if _PUBLISHED in plan.tables else None
    return [replace(table, name=f"{_PUBLISHED.kind}-{plan.family}")] if table else []


def _left(tables: Sequence[Table]) -> list[str]:
    """Return a sentence on the tables that the report alone has."""
    kinds = Counter(map(kind_of, tables))
    named = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    return [f"In the report's folder tables, whole and with every predictor and split: {named}."] if kinds else []


def _absent(
    plan: Plan, word: str, kinds: Sequence[Wanted], there: Sequence[Table | Figure], has_rows: bool
) -> list[str]:
    found = set(map(kind_of, there))
    no_rows = f"there are no rows of protocol {plan.protocol}"
    return [
        f"No {word} {one.kind} ({one.what}): {f'it takes {one.takes}' if has_rows else no_rows}."
        for one in kinds
        if one.kind not in found
    ]
