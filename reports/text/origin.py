"""Where the rows of a report come from, and what is known to be missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.analysis.controls import Expected

MAX_FAILED = 8  # that are named one by one


@dataclass(frozen=True)
class Origin:
    """Where the rows of a report come from.

    Attributes:
        name: of the report: the recipe's.
        stores: in which the rows lie.
        planned: number of trials that there should be; None where that is not known.
        finished: number of those with rows; None where that is not known.
        failed: trial in words -> reason, of the trials that failed.
        conflicts: sentences on rows that are the same by name and differ in numbers: both are left out.
        expected: data set -> what must be found in it, of those of which that is known.
        left_out: sentences on backbones that take no part in some of the recipe.
        names: name of a method or data set -> a short one for printed tables.
        costs: what work cost in these stores, each with `kind`, `work`, `seconds` and `machine`.
    """

    name: str
    stores: tuple[str, ...] = ()
    planned: int | None = None
    finished: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    expected: Mapping[str, Expected] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    costs: tuple[Mapping[str, Any], ...] = ()

    @property
    def partial(self) -> list[str]:
        """A sentence that says that trials are missing; none where all are finished, or where that is unknown."""
        if self.planned is None or self.finished is None or self.finished >= self.planned:
            return []
        return [
            f"PARTIAL: {self.finished:,} of {self.planned:,} trials are finished; every number may change. "
            "icm-bench sweep RECIPE computes what is missing."
        ]

    @property
    def missing(self) -> list[str]:
        """Sentences on all that is missing: unfinished trials, failed ones, conflicts, what is left out."""
        failed = [f"Gap: {trial}: {reason}" for trial, reason in self.failed.items()]
        if len(failed) > MAX_FAILED:
            failed = [*failed[:MAX_FAILED], f"{len(failed) - MAX_FAILED:,} more trials failed."]
        return [*self.partial, *failed, *self.conflicts, *self.left_out]
