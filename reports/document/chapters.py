"""The chapters of the paper in its order: what stands in each, and what is not there and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

from benchmark.method.evaluation.protocols import OpenClass, Protocol
from reports.analysis.against import Check
from reports.analysis.chosen import Selections
from reports.analysis.settings import Setting
from reports.document.digest import kind_of, of_one_predictor, of_one_split, over_backbones, over_data_sets
from reports.figures import Figure, groups_of
from reports.render.table import Table
from reports.tables import words
from reports.tables.published import beside, table_of

Family: TypeAlias = Literal["shift", "open", "both", "variants"]
_PUBLISHED = "published"
# Kind of a table or figure -> what rows must have for it.
_TAKES = {
    "table main": "two methods or more",
    "table environments": "two methods or more",
    f"table {_PUBLISHED}": "a data set of which something is published",
    "table open_class": "two methods or more",
    "table imagenet": "two methods or more",
    "table ablation_lambda": "a method with two lambdas or more",
    "table ablation_rank": "a method with two ranks or more",
    "table ablation_interventions": "two sets of interventions on images",
    "table ablation_text": "a set of interventions on texts beside another set",
    "table cost": "--price AMOUNT, 0 for hours alone",
    "table backbones": "two backbones or more",
    "table trend": "three backbones or more",
    "table over_data_sets": "two data sets or more",
    "table ablation_order": "both orders",
    "figure forest": "a method and plain prediction on the same images",
    "figure environments": "a method and plain prediction on the same images",
    "figure lambda_rank": "a method with several lambdas and ranks",
    "figure rank": "a method with two ranks or more",
    "figure spectrum": "a method with eigenvalues",
    "figure interventions": "a method that looks at interventions",
    "figure robustness": "eight backbones or more",
}
# Tables that are one in the paper where the report has one for each data set -> what it shows.
_OVER_DATA_SETS = {
    "ablation_lambda": "accuracy by lambda",
    "ablation_rank": "accuracy by rank",
    "ablation_interventions": "accuracy by set of interventions",
    "ablation_text": "accuracy by interventions on images, texts or both",
    "ablation_order": "accuracy by order of the eigenvectors",
}
_ONE_PREDICTOR = ("environments", "backbones", "over_data_sets", *_OVER_DATA_SETS)  # in the paper; others have all


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


@dataclass(frozen=True)
class Scope:
    """The settings of a report, and those of them that its paper shows where it cannot show all.

    Attributes:
        described: every setting with its rows.
        names: long name -> short name, as tables have them.
    """

    described: Sequence[tuple[Setting, Selections]]
    names: Mapping[str, str]

    @cached_property
    def families(self) -> dict[str, Family]:
        """Protocol -> the experiment of the paper to which its rows belong."""
        return {setting.protocol: _family(setting.protocol_class) for setting, _ in self.described}

    @cached_property
    def predictors(self) -> list[str]:
        """The predictors as titles of tables call them, in the order of tables."""
        methods = sorted({m for _, x in self.described for m in x.parts}, key=lambda method: method.place)
        return list(dict.fromkeys(words.short(method.predictor_label, self.names) for method in methods))

    @cached_property
    def drawn(self) -> Sequence[tuple[Setting, Selections]]:
        """The settings that figures show: of one backbone, protocol and split, one of each data set."""
        return next(iter(groups_of(self.described)), [])

    @property
    def sentence(self) -> str:
        """What figures are of, and what stays in the report; nothing where figures are of all rows."""
        if not self.drawn or len(self.drawn) == len(self.described):
            return ""
        setting = self.drawn[0][0]
        return (
            f"Figures of data sets are of {setting.backbone_label}, protocol {setting.protocol}, split "
            f"{setting.test_split}; `icm-bench report --where backbone=NAME` draws those of another backbone."
        )


def _family(protocol: type[Protocol]) -> Family:
    if protocol.open_class:
        return "open" if issubclass(protocol, OpenClass) else "both"
    return "variants" if protocol.across_sets else "shift"


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
        figures: all of a report, of which each kind's first is the paper's.
        checks: ours against what is published.
    """
    of_report = [one for one in tables if kind_of(one) != _PUBLISHED]
    drawn_of = {scope.families[setting.protocol] for setting, _ in scope.drawn}
    first = {kind_of(one): one for one in reversed(figures)}
    made, absent, shown = [], [], []
    for plan in _PLANS:
        families = (plan.family,) if plan.family else (None, *scope.families.values())
        of_family = [one for one in checks if scope.families.get(one.ours.setting.protocol) in families]
        own = [one for one in of_report if scope.families.get(one.context.get("protocol", "")) in families]
        printed = [one for kind in plan.tables for one in _digest(kind, own, scope)]
        published = table_of(of_family) if _PUBLISHED in plan.tables else None
        more = [replace(published, name=f"{_PUBLISHED}-{plan.family}")] if published else []
        is_drawn = not plan.family or plan.family in drawn_of
        drawn = tuple(first[kind] for kind in plan.figures if is_drawn and kind in first)
        noted = [replace(one, notes=(*beside(one, of_family), *one.notes)) for one in printed]
        made += [Chapter(plan.title, (*noted, *more), drawn)] if noted or more or drawn else []
        shown += printed
        there = [*(f"table {kind_of(one)}" for one in (*printed, *more)), *(f"figure {kind_of(one)}" for one in drawn)]
        wanted = [*(f"table {kind}" for kind in plan.tables), *(f"figure {kind}" for kind in plan.figures)]
        lacking = [f"no {kind} (it takes {_TAKES[kind]})" for kind in wanted if kind not in there]
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
    shown = of_one_split(one for one in tables if kind_of(one) == kind)
    if kind in _ONE_PREDICTOR:
        shown = of_one_predictor(shown, scope.predictors)
    if kind == "environments":
        return over_backbones(shown, "accuracy by environment")
    return over_data_sets(shown, _OVER_DATA_SETS[kind]) if kind in _OVER_DATA_SETS else shown
