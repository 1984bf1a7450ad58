"""The selection rules as pure functions of result rows (Gulrajani and Lopez-Paz, 2021, section 3).

A rule decides, for one held-out environment, one seed and one fold, everything that a method leaves open: rank, lambda,
intervention set, normalisation and the predictor's own parameters.

Ties go to the larger rank (the lesser intervention), then to the row that comes first.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array
from benchmark.method.evaluation.metrics import ACCURACY, METRICS, Answers, accuracy, harmonic_mean
from benchmark.method.evaluation.tested import Tested

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rule:
    """By what everything that a method leaves open is chosen.

    Attributes:
        name: what tables and columns of the rows call the rule.
        score: column of the rows whose highest value it takes: a rank curve.
        meaning: what that score is, for captions.
        looks_at_target: whether the score is of the held-out images: no result.
        crossed: whether one half of the tested images chooses for the other, both ways, so that no image scores the
            choice that it tests; where the rows know the accuracy on the target's out-split, that chooses.
    """

    name: str
    score: str
    meaning: str
    looks_at_target: bool = False
    crossed: bool = False


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "training_domain",
            "training_domain",
            "highest mean accuracy on images of the source environments that the fit has not seen",
        ),
        Rule(
            "lodo",
            "lodo",
            "highest mean accuracy when each source environment in turn is left out, refitted and tested on",
        ),
        Rule(
            "oracle",
            ACCURACY.name,
            "chosen on one half of the tested images and reported on the other, both ways: what labels of the held-out "
            "environment would be worth, no result",
            looks_at_target=True,
            crossed=True,
        ),
        Rule(
            "ceiling",
            ACCURACY.name,
            "highest of the very accuracies that are reported: a bound that is biased upwards, no result",
            looks_at_target=True,
        ),
    )
}
SOURCE_RULES = tuple(rule.name for rule in RULES.values() if not rule.looks_at_target)
KEY = ("held_out", "seed", "fold")


def best_index(scores: Sequence[float] | None) -> int | None:
    """Return the position of the highest score in a rank curve (the last one of equals), or None without scores."""
    known = [i for i, score in enumerate(scores or ()) if not math.isnan(score)]
    if scores is None or not known:
        return None
    return max(known, key=lambda i: (scores[i], i))


def best_point(scores: Array | None) -> tuple[int, int] | None:
    """Return positions of rank and setting of the highest score, or None without scores; ties as everywhere.

    Args:
        scores: shape (settings, ranks), NaN where there is none; or None.
    """
    if scores is None or np.isnan(scores).all():
        return None
    best = np.argwhere(scores == np.nanmax(scores))
    setting, index = min(best.tolist(), key=lambda place: (-place[1], place[0]))
    return index, setting


@dataclass(frozen=True)
class _Pick:
    """One row and one rank of it: the position of the rank is `index`."""

    row: dict[str, Any]
    index: int


def select(rows: "pd.DataFrame", rule: str, tested: Mapping[str, Tested], rank: int | None = None) -> "pd.DataFrame":
    """Pick one row and one rank for every (held_out, seed, fold) among the rows of one method.

    Args:
        rows: rows of `benchmark.store.rows.schema()` of one data set, backbone, test split and method.
        rule: name of one of `RULES`.
        tested: hash -> the tested images that rows name by it.
        rank: the only rank among which is chosen; by default all.

    Returns:
        One line per (held_out, seed, fold), sorted; those without a score of the rule are absent. Columns: held_out,
        seed, fold, position (of the picked row in `rows`), rank, score (what the rule looked at), training_domain
        (accuracy on the sources' judging images), each of `METRICS` by its name (on the tested images), correct (bool
        for each of them), ece, ece_scaled and temperature (NaN for rules that look at the target), and as in the row
        lambda_, intervention_set, normalize, predictor_params, projection_params, n_test and tested. Of a crossed rule
        position, rank and parameters are those that the first half chose.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    numbered = rows.assign(position=range(len(rows)))
    for key, candidates in numbered.groupby(list(KEY), sort=True, dropna=False):
        records = [
            {str(k): v for k, v in row.items()}
            for row in candidates.to_dict("records")
            if rank is None or rank in row["ranks"]
        ]
        lines += [dict(zip(KEY, key, strict=True)) | line for line in _lines(records, RULES[rule], tested, rank)]
    names = ["position", "rank", "score", "training_domain", *(m.name for m in METRICS), "correct", *_KEPT, *_COPIED]
    return pd.DataFrame(lines, columns=[*KEY, *names])


def _lines(
    rows: Sequence[dict[str, Any]], rule: Rule, tested: Mapping[str, Tested], rank: int | None
) -> Iterator[dict[str, Any]]:
    """Yield what a rule picks among the rows of one (held_out, seed, fold): one line, or none."""
    rows = [row for row in rows if row["n_test"] and not math.isnan(row[ACCURACY.name][-1])]
    if rule.crossed and rows and rows[0]["target_out"] is None:
        yield from _crossed(rows, tested, rank)
        return
    column = "target_out" if rule.crossed else rule.score
    pick = _best(((row, row[column]) for row in rows), rank)
    if pick:
        correct = unpacked(pick.row)[pick.index]
        measures = {m.name: pick.row[m.name][pick.index] for m in METRICS}
        kept = {name: pick.row.get(f"{name}_{rule.name}", math.nan) for name in _KEPT}
        yield _line(pick, pick.row[column][pick.index], measures, correct) | kept


def _best(scored: "Iterator[tuple[dict[str, Any], Sequence[float] | None]]", rank: int | None) -> _Pick | None:
    """Return the row and rank with the highest score; `rank` is the only one that counts, or None."""
    best: _Pick | None = None
    highest = (-math.inf, 0)
    for row, scores in scored:
        allowed = scores if rank is None or scores is None else _only(scores, row["ranks"].index(rank))
        index = best_index(allowed)
        if index is not None and scores is not None and (scores[index], row["ranks"][index]) > highest:
            best, highest = _Pick(row, index), (scores[index], row["ranks"][index])
    return best


def _only(scores: Sequence[float], index: int) -> list[float]:
    return [score if i == index else math.nan for i, score in enumerate(scores)]


def _crossed(
    rows: Sequence[dict[str, Any]], tested: Mapping[str, Tested], rank: int | None
) -> Iterator[dict[str, Any]]:
    """Yield the line of a crossed choice: each half of the tested images as the other half chose."""
    images = tested[rows[0]["tested"]]
    first = images.halves(int(rows[0]["seed"]))
    scores = [_by_half(row, images, first) for row in rows]
    picks = [_best(((row, s[half]) for row, s in zip(rows, scores, strict=True)), rank) for half in (0, 1)]
    if picks[0] is None or picks[1] is None:
        return  # a half has no image of its own
    chosen_by_first, chosen_by_second = (unpacked(pick.row)[pick.index] for pick in picks if pick)
    correct = np.where(first, chosen_by_second, chosen_by_first)
    line = _line(picks[0], math.nan, measured(correct, images, rows[0]), correct)
    yield line | dict.fromkeys(_KEPT, math.nan)


def _by_half(row: dict[str, Any], images: Tested, first: NDArray[np.bool_]) -> list[list[float]]:
    """Return the accuracies at every rank on the first and on the second half of the tested images."""
    correct = unpacked(row)
    return [_accuracy(correct, images, half, row).tolist() for half in (first, ~first)]


def _accuracy(correct: NDArray[np.bool_], images: Tested, which: NDArray[np.bool_], row: Mapping[str, Any]) -> Array:
    if row["class_half"] != "harmonic":
        return accuracy(correct[:, which])
    new = images.label >= row["n_base"]
    return harmonic_mean(accuracy(correct[:, which & ~new]), accuracy(correct[:, which & new]))


def measured(correct: NDArray[np.bool_], images: Tested, row: Mapping[str, Any]) -> dict[str, float]:
    """Return each of `METRICS` for answers on tested images; of base and new classes, what stands for both.

    Args:
        correct: whether each image is classified correctly, shape (m,).
        images: the images.
        row: any row of theirs; class_half, n_base and n_classes are used.
    """
    if row["class_half"] != "harmonic":
        answers = Answers(correct, images.label, row["n_classes"])
        return {m.name: float(m.compute(answers)) for m in METRICS}
    new = images.label >= row["n_base"]
    base, others = (Answers(correct[w], images.label[w], row["n_classes"]) for w in (~new, new))
    return {m.name: float(m.combine(m.compute(base), m.compute(others))) for m in METRICS}


_KEPT = ("ece", "ece_scaled", "temperature")  # of which a row has one for each rule that looks at sources alone
_COPIED = (
    "lambda_",
    "intervention_set",
    "normalize",
    "predictor_params",
    "projection_params",
    "n_test",
    "tested",
)


def _line(pick: _Pick, score: float, measures: dict[str, float], correct: NDArray[np.bool_]) -> dict[str, Any]:
    row = pick.row
    return {
        "position": row["position"],
        "rank": row["ranks"][pick.index],
        "score": score,
        "training_domain": row["training_domain"][pick.index],
        **measures,
        "correct": correct,
        **{name: row[name] for name in _COPIED},
    }


def packed(correct: NDArray[np.bool_]) -> bytes:
    """Return answers, shape (ranks, m), as bits: each rank begins a new byte."""
    return np.packbits(correct, axis=1).tobytes()


def unpacked(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the answers of a row, shape (ranks, m), from its columns correct, ranks and n_test."""
    bits = np.frombuffer(row["correct"], dtype=np.uint8).reshape(len(row["ranks"]), -1)
    return np.unpackbits(bits, axis=1, count=int(row["n_test"])).astype(bool)


def source_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return rule -> mean over held-out environments, seeds and folds of the highest score among rows and ranks.

    Of the rules that look at source environments alone; those without a score are absent. This is all that a search or
    a scheduler ever sees of a trial.
    """
    means = {}
    for rule in SOURCE_RULES:
        best: dict[tuple[object, ...], float] = {}
        for row in rows:
            scores = [score for score in row[RULES[rule].score] or () if not np.isnan(score)]
            if scores:
                key = tuple(row[name] for name in KEY)
                best[key] = max(best.get(key, 0.0), *scores)
        if best:
            means[rule] = float(np.mean(list(best.values())))
    return means
