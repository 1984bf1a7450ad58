"""Checks of published records: each is a pure function of records, and returns one sentence for each problem."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmark.method.evaluation.inference import ImageInterval
from benchmark.results.answers import judge
from benchmark.results.records import Details, Number


def judged_together(publication: Sequence[tuple[Details, Sequence[Number], bool]]) -> list[Details]:
    """Return details with verdicts, given all records of one publication.

    Args:
        publication: details, numbers, and whether the rule kept plain prediction in every test. Details with an empty
            verdict, and records without a gain, are not judged.
    """
    gains = [_gains(numbers) if details.verdict else None for details, numbers, _ in publication]
    kept = [plain for gain, (_, _, plain) in zip(gains, publication, strict=True) if gain]
    judged = iter(judge([(*gain, bool(plain)) for gain, plain in zip(filter(None, gains), kept, strict=True)]))
    found = []
    for gain, (details, _, _) in zip(gains, publication, strict=True):
        one = next(judged) if gain else None
        p = {} if one is None else {"p_holm": one.p, "p_balanced_holm": one.p_balanced, "p_both_holm": one.p_both}
        found.append(
            details if one is None else replace(details, verdict=one.verdict, why=one.why, family=one.family, **p)
        )
    return found


def _gains(numbers: Iterable[Number]) -> tuple[ImageInterval, ImageInterval] | None:
    """Return the gains in accuracy and in class-balanced accuracy, averaged over held-out environments."""
    of = {number.id: number.interval for number in numbers}
    both = of.get("gain_in_accuracy"), of.get("gain_in_balanced_accuracy")
    return None if None in both else (both[0], both[1])  # type: ignore[return-value]
