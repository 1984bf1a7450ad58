"""What of a table is published, and how ours stand beside it: a note below it, without the single numbers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from reports.analysis.against import CONTEXT, FAIL, NOT_COMPARABLE, OWN_ROWS, PASS, Check
from reports.analysis.published import AVERAGE
from reports.document.digest import kind_of
from reports.render.table import Table

# Kind of a table -> whether an environment is one whose plain accuracy stands in it.
_HOLDS: Mapping[str, Callable[[str], bool]] = {
    "main": lambda environment: environment == AVERAGE,
    "backbones": lambda environment: environment == AVERAGE,
    "environments": lambda _: True,
    "imagenet": lambda _: True,
}
_NOTHING = (
    "Published: nothing of this table. Plain prediction is held against published accuracies by data set and by "
    "environment."
)
_VERDICTS = {
    PASS: "reproduced within the tolerance", FAIL: "not reproduced", NOT_COMPARABLE: "not comparable",
    CONTEXT: "never decisive",
}  # fmt: skip
_SHARED = {"protocol": "protocol", "test_split": "test_split", "dataset": "dataset", "backbone": "backbone_label"}


def beside(table: Table, checks: Sequence[Check]) -> tuple[str, str]:
    """Return what is published of the numbers of a table, reproduced, or not comparable, in two notes.

    Args:
        table: whose numbers they are.
        checks: ours against what is published.
    """
    own = [one for one in checks if _stands_in(one, table)]
    published = len({id(one.ours) for one in own if one.sources})
    counts = Counter(one.verdict for one in own)
    if published:
        counted = ", ".join(f"{counts[verdict]} {words}" for verdict, words in _VERDICTS.items() if counts[verdict])
        said = f"Published: {published} of its numbers; {counted}. Each stands in the table of published accuracies."
    else:
        reasons = [one.detail for one in own if one.verdict == NOT_COMPARABLE]
        why = f" ({reasons[0]})" if reasons else ""
        said = f"Published: none of its numbers{why}." if kind_of(table) in _HOLDS else _NOTHING
    return said, f"{OWN_ROWS}."


def _stands_in(check: Check, table: Table) -> bool:
    holds = _HOLDS.get(kind_of(table))
    if holds is None or not holds(check.ours.environment):
        return False
    setting = check.ours.setting
    return all(getattr(setting, of) in table.context.get(name, "").split(", ") for name, of in _SHARED.items())
