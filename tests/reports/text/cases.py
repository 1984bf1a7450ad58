"""Cases with a known answer: eighteen with golden headline, terminal text and report.md, and further ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.analysis.findings import comparisons
from reports.analysis.settings import Options
from reports.analysis.verdicts import Answer, answer
from tests.reports.analysis.test_verdicts import ENVIRONMENTS, of, right, world
from tests.reports.synthetic import results_of

PLAIN = "Plain prediction gets 50.0 % of images of held-out environments right."
OVER_TWO = "Over 2 data sets, plain prediction gets 50.0 % of images of held-out environments right."


@dataclass(frozen=True)
class Case:
    """Rows with the expected headline and the options of the report."""

    rows: list[dict[str, Any]]
    headline: str
    options: Options = field(default_factory=Options)

    @property
    def answer(self) -> Answer:
        parts = results_of(self.rows)
        return answer(parts, [comparisons(*one, self.options) for one in parts])


def sets(shares: Sequence[tuple[float, float]], column: str = "dataset") -> list[dict[str, Any]]:
    return [
        r | {column: f"{column}{i}", f"{column}_fingerprint": f"{i}"} for i, s in enumerate(shares) for r in world(s)
    ]


def one_candidate(projection: str, **other: Any) -> list[dict[str, Any]]:
    """Return rows of a method without ranks, with 60 % accuracy."""
    alone: dict[str, Any] = {"correct": [right((0.6, 0.6))], "target": (0.6,), "predicted": None}
    return of((0.6, 0.6), projection, **(alone | other))


def imported(shares: Sequence[float]) -> list[dict[str, Any]]:
    """Return rows of an imported method without source scores."""
    none = dict.fromkeys(("n_train", "labels_fit", "labels_choice", "normalize", "view_draw"))
    alone: dict[str, Any] = {"correct": [right(shares)], "target": (0.6,), "predicted": None, "lodo": [float("nan")]}
    return [r | none for r in of(shares, "imported", predictor="ERM", **alone)]


MINE = one_candidate("mine:Leace", lodo=[0.2], dim=2, ranks=[2])
SHRINKAGE = one_candidate("shrinkage", lodo=[0.9], lodo_se=[0.01], training_domain=[0.9], training_domain_se=[0.01])
HARM = one_candidate("fixed", correct=[right((0.4, 0.4))], target=(0.4,), lodo=[0.2])
HARMS = "Fixed shrinkage lowers it to 40.0 % (-10.0 points, -10.9 to -9.1)."
FREELY = "chosen freely it gains 10.0 points (9.1 to 10.9)"
NAMED = (("mine:Leace", "PCA"), ("CLIP-ICM", "Random projection"))
EIGHTEEN = {
    "helps": Case(
        [r for s in (0, 1) for r in world((0.6, 0.6), seed=s)],
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0 points, 9.1 to 10.9).",
    ),
    "accuracy_only": Case(
        world((0.6, 0.4)),
        f"{PLAIN} CLIP-ICM raises it to 58.0 % (+8.0 points, 7.1 to 8.9), but not with classes counted equally.",
    ),
    "balanced_only": Case(
        world((0.48, 0.68)),
        f"{PLAIN} CLIP-ICM helps only with classes counted equally (+8.0 points; over images +0.0).",
    ),
    "trades_classes": Case(
        world((0.6, 0.1)), f"{PLAIN} CLIP-ICM gains 5.0 points over images but loses 15.0 with classes counted equally."
    ),
    "trades_images": Case(
        world((0.4, 0.9)), f"{PLAIN} CLIP-ICM loses 5.0 points over images but gains 15.0 with classes counted equally."
    ),
    "hurts": Case(world((0.4, 0.4)), f"{PLAIN} CLIP-ICM lowers it to 40.0 % (-10.0 points, -10.9 to -9.1)."),
    "ties_a_baseline": Case(
        [*world((0.6, 0.6)), *of((0.6, 0.6), "pca"), *of((0.5, 0.5), "random")],
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0 points, 9.1 to 10.9). It is not shown to be ahead of PCA.",
    ),
    "grouped": Case(
        world((0.6, 0.6), groups=[i // 2 for i in range(1000)]),
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0 points, 7.4 to 12.6).",
    ),
    "three_environments": Case(
        world((0.6, 0.6), environments=ENVIRONMENTS[:3]),
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0 points, 8.9 to 11.1).",
    ),
    "one_seed": Case(
        [*world((0.5, 0.5)), *SHRINKAGE],
        f"{PLAIN} CLIP-ICM makes no measurable difference (50.0 %). Shrinkage raises it to 60.0 % (+10.0 points, 9.1 to 10.9).",
    ),
    "all_plain": Case(
        world((0.6, 0.6), lodo=[0.505, 0.5]),
        f"{PLAIN} CLIP-ICM is never chosen over plain prediction by the careful rule; {FREELY}.",
    ),
    "leace_at_full_rank": Case(
        [*world((0.5, 0.5)), *MINE],
        f"{PLAIN} mine:Leace raises it to 60.0 % (+10.0 points, 9.1 to 10.9). CLIP-ICM makes no measurable difference (50.0 %).",
    ),
    "sets_agree": Case(sets([(0.6, 0.6), (0.7, 0.7)]), f"{OVER_TWO} CLIP-ICM helps in both."),
    "sets_disagree": Case(
        sets([(0.6, 0.6), (0.4, 0.4)]), f"{OVER_TWO} CLIP-ICM helps in 1 and hurts in 1 of 2 settings."
    ),
    "own_method_named": Case(
        [*world((0.5, 0.5)), *MINE, *of((0.45, 0.45), "pca")],
        f"{PLAIN} mine:Leace raises it to 60.0 % (+10.0 points, 9.1 to 10.9). PCA lowers it to 45.0 % (-5.0 points, -5.7 to -4.3). CLIP-ICM makes no measurable difference (50.0 %).",
        Options(compare=(("mine:Leace + zero-shot", "PCA + zero-shot"),)),
    ),
    "imported": Case(
        [*world((0.5, 0.5)), *imported((0.6, 0.6))],
        f"{PLAIN} ERM (imported) raises it to 60.0 % (+10.0 points, 9.1 to 10.9). CLIP-ICM makes no measurable difference (50.0 %).",
    ),
    "nothing_but_plain": Case(of((0.5, 0.5)), PLAIN),
    "ten_encoders": Case(
        sets([(0.5 + 0.01 * i,) * 2 for i in range(10)], "backbone"),
        "Over 10 encoders, plain prediction gets 50.0 % of images of held-out environments right. CLIP-ICM helps in 9 "
        "of 10 settings.",
    ),
}
MORE = {
    "without plain": Case(
        of((0.6, 0.6), "icm"),
        "Plain prediction was not tested on all held-out environments. CLIP-ICM has 60.0 %; what it gains cannot be "
        "said.",
    ),
    "bounds alone": Case(
        world((0.6, 0.6), protocol="in_domain"),
        "No accuracy can be given: there are bounds alone, or nothing that a fair rule chooses.",
    ),
    "hurts by classes alone": Case(
        world((0.52, 0.3)), f"{PLAIN} CLIP-ICM hurts with classes counted equally (-9.0 points; over images -0.2)."
    ),
    "more methods than words": Case(
        [*world((0.5, 0.5)), *MINE, *of((0.45, 0.45), "pca"), *of((0.45, 0.45), "random")],
        f"{PLAIN} mine:Leace raises it to 60.0 % (+10.0 points, 9.1 to 10.9). PCA lowers it to 45.0 % (-5.0 points, -5.7 to -4.3). "
        "CLIP-ICM makes no measurable difference (50.0 %).",
        Options(compare=tuple((f"{a} + zero-shot", f"{b} + zero-shot") for a, b in NAMED)),
    ),
    "fixed hurts": Case(
        [*world((0.6, 0.6)), *of((0.6, 0.6), "pca"), *HARM],
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0 points, 9.1 to 10.9). {HARMS} CLIP-ICM is not shown to be ahead "
        "of PCA.",
    ),
    "fixed hurts in one of two": Case(
        [
            r | {"dataset": name, "dataset_fingerprint": name}
            for name, rows in (("a", HARM), ("b", one_candidate("fixed")))
            for r in [*world((0.5, 0.5)), *rows]
        ],
        f"{OVER_TWO} CLIP-ICM makes no measurable difference in either. Fixed shrinkage hurts in 1 and helps in 1 of 2 "
        "settings.",
    ),
    "fixed hurts beside more methods than words": Case(
        [*world((0.5, 0.5)), *MINE, *of((0.45, 0.45), "pca"), *of((0.45, 0.45), "random"), *HARM],
        f"{PLAIN} mine:Leace raises it to 60.0 % (+10.0 points, 9.1 to 10.9). PCA lowers it to 45.0 % (-5.0 points, -5.7 to -4.3). "
        f"{HARMS}",
        Options(compare=tuple((f"{a} + zero-shot", f"{b} + zero-shot") for a, b in NAMED)),
    ),
    "both were named": Case(
        [*world((0.6, 0.6)), *MINE],
        f"{PLAIN} CLIP-ICM raises it to 60.0 % (+10.0 points, 9.1 to 10.9). mine:Leace raises it to 60.0 % (+10.0 points, 9.1 to "
        "10.9).",
        Options(compare=(("CLIP-ICM + zero-shot", "Zero-shot"),)),
    ),
}
