"""The chapters of the paper in its order: which tables and figures stand in each, and why one is not there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

from benchmark.method.evaluation.protocols import OpenClass
from reports.against import Check
from reports.as_paper.published import beside
from reports.chosen import Selections
from reports.figures import Figure
from reports.published_table import table_of
from reports.settings import Setting
from reports.table import Table

Family: TypeAlias = Literal["shift", "open", "both", "variants"]
T = TypeVar("T", Table, Figure)


@dataclass(frozen=True)
class Wanted:
    """A kind of table or figure that a chapter has.

    Attributes:
        kind: its name, without what tells several of a kind apart.
        what: it shows, in words.
        takes: what rows must have for it, in words that follow "it takes".
    """

    kind: str
    what: str
    takes: str


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
        absent: sentences on tables and figures that are not there, each with the reason.
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
            Wanted("environments", "accuracy by environment", _LINES),
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
        (Wanted("ablation_lambda", "accuracy by lambda", "a method with two lambdas or more"),),
        (
            Wanted("lambda", "gain by lambda", "a method with two lambdas or more"),
            Wanted("lambda_rank", "accuracy by lambda and rank", "a method with several lambdas and ranks"),
        ),
    ),
    Plan(
        "Ablation: rank",
        (Wanted("ablation_rank", "accuracy by rank", "a method with two ranks or more"),),
        (
            Wanted("rank", "gain by rank", "a method with two ranks or more"),
            Wanted("spectrum", "eigenvalues", "a method with eigenvalues"),
        ),
    ),
    Plan(
        "Ablation: interventions",
        (Wanted("ablation_interventions", "accuracy by set of interventions", "two sets of interventions on images"),),
        (
            Wanted("interventions", "what interventions move and gain", "a method that looks at interventions"),
            Wanted("pairs", "gain by share of the pairs", "sets with shares of the pairs"),
        ),
    ),
    Plan(
        "Ablation: interventions on texts",
        (Wanted("ablation_text", "images, texts or both", "a set of interventions on texts beside another set"),),
    ),
    Plan("Cost", (Wanted("cost", "what embeddings and trials cost", "`--price AMOUNT`, 0 for hours alone"),)),
    Plan(
        "Beside the paper",
        (
            Wanted("backbones", "gain by backbone", "two backbones or more"),
            Wanted("trend", "gain against accuracy over backbones", "three backbones or more"),
            Wanted("over_data_sets", "differences over data sets", "two data sets or more"),
            Wanted("comparisons", "differences between methods", "a method and a baseline on the same images"),
            Wanted("ablation_order", "order of the eigenvectors", "both orders"),
            Wanted("ablation_predictor", "predictors", "two predictors or more"),
            Wanted("selection", "what each rule finds", "several settings to choose from"),
            Wanted("shift", "what is removed of the shift", "rows that measured it"),
            Wanted("behind", "numbers behind the means", _LINES),
        ),
        (
            Wanted("selection", "source score against accuracy", "several settings to choose from"),
            Wanted("map", "images before and after", "`icm-bench details RECIPE`"),
            Wanted("robustness", "effective robustness", "eight backbones or more"),
        ),
    ),
)


def family_of(setting: Setting) -> Family:
    """Return the experiment of the paper to which rows belong, by their protocol."""
    protocol = setting.protocol_class
    if protocol.across_sets:
        return "variants"
    if protocol.open_class:
        return "open" if issubclass(protocol, OpenClass) else "both"
    return "shift"


def first_of_each_set(described: Sequence[tuple[Setting, Selections]]) -> list[tuple[Setting, Selections]]:
    """Return settings with those first of which a paper has figures: of domain shift, one of each data set."""
    seen: Counter[tuple[Family, str]] = Counter()
    places = []
    for number, (setting, _) in enumerate(described):
        family = family_of(setting)
        places.append((family != "shift", seen[family, setting.dataset], number))
        seen[family, setting.dataset] += 1
    return [described[number] for *_, number in sorted(places)]


def chapters(
    described: Sequence[tuple[Setting, Selections]],
    tables: Sequence[Table],
    figures: Sequence[Figure],
    checks: Sequence[Check],
) -> list[Chapter]:
    """Return all chapters, each table and figure once; those of a kind that no chapter knows stand in the last.

    Args:
        described: every setting with its rows.
        tables: all of a report but that of published accuracies, which every chapter has for itself.
        figures: all.
        checks: ours against what is published.
    """
    families = {setting.protocol: family_of(setting) for setting, _ in described}
    rest, drawn = [one for one in tables if _kind(one) != _PUBLISHED.kind], list(figures)
    made = []
    for plan in _PLANS:
        of_family = [one for one in checks if plan.family in (None, families[one.ours.setting.protocol])]
        own = [one for one in rest if plan.family in (None, families.get(one.context.get("protocol", "")))]
        published = _published(plan, of_family)
        own_tables, own_figures = _of_kinds(own, plan.tables), _of_kinds(drawn, plan.figures)
        rest = [one for one in rest if one not in own_tables]
        drawn = [one for one in drawn if one not in own_figures]
        if plan is _PLANS[-1]:
            own_tables, own_figures = own_tables + rest, own_figures + drawn
        has_rows = plan.family is None or plan.family in families.values()
        absent = [
            *_absent(plan, "table", plan.tables, [*own_tables, *published], has_rows),
            *_absent(plan, "figure", plan.figures, own_figures, has_rows),
        ]
        said = [replace(one, notes=(beside(one, of_family, bool(published)), *one.notes)) for one in own_tables]
        made.append(Chapter(plan.title, tuple(absent), (*said, *published), tuple(own_figures)))
    return made


def _kind(one: Table | Figure) -> str:
    return one.name.partition("-")[0]


def _published(plan: Plan, checks: Sequence[Check]) -> list[Table]:
    """Return the table of a chapter that has one: in which ours stand beside published accuracies."""
    table = table_of(checks) if _PUBLISHED in plan.tables else None
    return [replace(table, name=f"{_PUBLISHED.kind}-{plan.family}")] if table else []


def _of_kinds(every: Sequence[T], kinds: Sequence[Wanted]) -> list[T]:
    return [one for wanted in kinds for one in every if _kind(one) == wanted.kind]


def _absent(
    plan: Plan, word: str, kinds: Sequence[Wanted], there: Sequence[Table | Figure], has_rows: bool
) -> list[str]:
    found = {_kind(one) for one in there}
    no_rows = f"there are no rows of protocol {plan.protocol}"
    return [
        f"No {word} {one.kind} ({one.what}): {f'it takes {one.takes}' if has_rows else no_rows}."
        for one in kinds
        if one.kind not in found
    ]
