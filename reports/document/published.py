"""What of a table is published, what was reproduced, and what cannot be compared and why: some sentences below it."""

from collections.abc import Callable, Mapping, Sequence

from reports.analysis.against import CONTEXT, FAIL, NOT_COMPARABLE, OWN_ROWS, PASS, Check
from reports.analysis.published import AVERAGE
from reports.render.table import Table

MAX_NAMED = 2  # numbers of each verdict that are named below a table; all stand in the table of published accuracies

# Kind of a table -> whether an environment is one whose plain accuracy stands in it.
_HOLDS: Mapping[str, Callable[[str], bool]] = {
    "main": lambda environment: environment == AVERAGE,
    "backbones": lambda environment: environment == AVERAGE,
    "environments": lambda _: True,
    "imagenet": lambda _: True,
}
# Of the others: why nothing published is held against them. Costs are no accuracies.
_PLAIN = "those of plain prediction are held against published ones in the tables by data set and environment"
_APART = {
    "open_class": "nothing of this protocol that could be obtained",
    "cost": "nothing, for it has no accuracies",
    **dict.fromkeys(
        ("ablation_lambda", "ablation_rank", "ablation_interventions", "ablation_text", "ablation_order", "selection",
         "ablation_predictor", "shift", "behind", "comparisons", "over_data_sets", "trend"),
        f"nothing of this table; {_PLAIN}",
    ),
}  # fmt: skip
_SHARED = {"protocol": "protocol", "test_split": "test_split", "dataset": "dataset", "backbone": "backbone_label"}


def beside(table: Table, checks: Sequence[Check], elsewhere: bool) -> str:
    """Return what is published of the numbers of a table, reproduced, or not comparable and why.

    Args:
        table: whose numbers they are.
        checks: ours against what is published.
        elsewhere: whether all of them stand in a table of published accuracies nearby.
    """
    if (apart := _APART.get(table.name.partition("-")[0])) is not None:
        return f"Published: {apart}. {OWN_ROWS}."
    own = [one for one in checks if _stands_in(one, table)]
    published = {id(one.ours) for one in own if one.sources}
    if not published:
        reasons = dict.fromkeys(one.detail for one in own if one.verdict == NOT_COMPARABLE)
        why = f" ({next(iter(reasons))})" if reasons else ""
        return f"Published: of none of its numbers{why}. {OWN_ROWS}."
    passed, failed, unlike, context = (
        [one for one in own if one.verdict == verdict] for verdict in (PASS, FAIL, NOT_COMPARABLE, CONTEXT)
    )
    parts = [
        f"Published: {len(published)} of its numbers.",
        _listed("Reproduced within the tolerance", passed, _numbers),
        _listed("Not reproduced", failed, lambda one: f"{_numbers(one)}, first suspect {one.reason}"),
        _listed("Cannot be compared", unlike, lambda one: f"{one.ours.name}: {one.detail}"),
        _listed("Published, but never decisive", context, lambda one: f"{_numbers(one)}, {one.reason}"),
        f"{OWN_ROWS}.",
        "All of it: the table of published accuracies in this chapter." if elsewhere else "",
    ]
    return " ".join(filter(None, parts))


def _stands_in(check: Check, table: Table) -> bool:
    holds = _HOLDS.get(table.name.partition("-")[0])
    if holds is None or not holds(check.ours.environment):
        return False
    setting = check.ours.setting
    return all(getattr(setting, of) in table.context.get(name, "").split(", ") for name, of in _SHARED.items())


def _numbers(check: Check) -> str:
    assert check.published is not None
    return f"{check.ours.name} {check.ours.accuracy:.1f} for {check.published:.1f}"


def _listed(words: str, checks: Sequence[Check], of: Callable[[Check], str]) -> str:
    if not checks:
        return ""
    more = [f"and {len(checks) - MAX_NAMED} more"] if len(checks) > MAX_NAMED else []
    return f"{words}: {len(checks)} ({'; '.join([*map(of, checks[:MAX_NAMED]), *more])})."
