"""The selection rules as pure functions of result rows (Gulrajani and Lopez-Paz, 2021, section 3).

A rule decides, for one held-out environment, one seed and one fold, everything that a method leaves open: rank, lambda,
intervention set, normalisation and the predictor's own parameters.

Ties go to the larger rank (the lesser intervention), then to the row that comes first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import add, itemgetter
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
IMPORTED = "imported"  # in place of a projection: the answers are of a method that was trained elsewhere


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


def best_of(
    scores: Sequence[Sequence[float] | None], ranks: Sequence[int], rank: int | None = None
) -> tuple[int, int] | None:
    """Return which of several rank curves has the highest score, and at which position; ties as everywhere.

    Args:
        scores: for each curve its scores at the ranks, or None.
        ranks: these ranks, ascending.
        rank: the only one that counts; by default all do.
    """
    strands = [_Strand(({"ranks": ranks, "at": i},), of_curve) for i, of_curve in enumerate(scores)]
    pick = _best(strands, rank)
    return (pick.strand.rows[0]["at"], pick.index) if pick else None


@dataclass(frozen=True)
class _Strand:
    """The rows of one setting that are chosen together: one, or one for each fold; `scores` run over their ranks."""

    rows: tuple[dict[str, Any], ...]
    scores: Sequence[float] | None


@dataclass(frozen=True)
class _Pick:
    """One strand and one rank of it: the position of the rank is `index`."""

    strand: _Strand
    index: int

    def correct(self) -> list[NDArray[np.bool_]]:
        """Return the answers at the rank, row by row."""
        return [unpacked(row)[self.index] for row in self.strand.rows]


def picked_by_sources(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the positions of the rows that a rule picks which looks at sources alone, ascending.

    Among rows of one method it picks from these what it would pick from all of them; they have nothing for a rule that
    looks at the target.

    Args:
        rows: as `select` takes them, also of several tests: each is chosen for by itself.
    """
    tests: dict[tuple[object, ...], list[int]] = {}
    for position, row in enumerate(rows):
        tests.setdefault(tuple(row[name] for name in (*KEY, "test_split", "class_half")), []).append(position)
    picked: set[int] = set()
    for positions in tests.values():
        for rule in SOURCE_RULES:
            strands = [_Strand(({**rows[i], "at": i},), rows[i][RULES[rule].score]) for i in positions]
            pick = _best(strands, None)
            picked |= {pick.strand.rows[0]["at"]} if pick else set()
    return sorted(picked)


def select(rows: "pd.DataFrame", rule: str, tested: Mapping[str, Tested], rank: int | None = None) -> "pd.DataFrame":
    """Pick one row and one rank for every (held_out, seed, fold) among the rows of one method.

    A rule that looks at sources alone chooses for each fold by itself: nothing of the fold's tested images has a say.
    One that looks at the target chooses one setting for all folds together, where all settings stand in all of them;
    otherwise (a search looks for points of its own in each fold) one for each fold.

    Args:
        rows: rows of `benchmark.store.rows.schema()` of one data set, backbone, test split and method.
        rule: name of one of `RULES`.
        tested: hash -> the tested images that rows name by it.
        rank: the only rank among which is chosen; by default all.

    Returns:
        One line per (held_out, seed, fold), sorted; those without a score of the rule are absent, but for an imported
        method with one setting, which stands under every rule that has scores there. Columns: held_out,
        seed, fold, position (of the picked row in `rows`), rank, score (what the rule looked at), training_domain
        (accuracy on the sources' judging images), each of `METRICS` by its name (on the tested images), correct (bool
        for each of them), ece, ece_scaled and temperature (NaN for rules that look at the target, and at a rank that is
        not the row's own pick: rows are calibrated there alone), and as in the row
        lambda_, intervention_set, normalize, predictor_params, projection_params, n_test and tested. Of a crossed rule
        position, rank and parameters are those that the first half chose.
    """
    import pandas as pd

    together = RULES[rule].looks_at_target
    lines: list[dict[str, Any]] = []
    test = itemgetter(*(KEY[:2] if together else KEY))
    for _, candidates in groupby(sorted(_records(rows), key=test), key=test):
        records = [
            row
            for row in candidates
            if row["n_test"] and not math.isnan(row[ACCURACY.name][-1]) and (rank is None or rank in row["ranks"])
        ]
        for settings in _choices(records) if together else [[(row,) for row in records]]:
            lines += _lines(settings, RULES[rule], tested, rank)
    names = ["position", "rank", "score", "training_domain", *(m.name for m in METRICS), "correct", *_KEPT, *_COPIED]
    return pd.DataFrame(lines, columns=[*KEY, *names])


def _records(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return what is looked at of the rows one by one, with their positions.

    Column by column, which is many times as fast as row by row.
    """
    names = [name for name in _looked_at() if name in rows.columns]
    values = zip(*(rows[name].tolist() for name in names), strict=True)
    return [{**dict(zip(names, row, strict=True)), "position": i} for i, row in enumerate(values)]


def _choices(rows: Sequence[dict[str, Any]]) -> list[list[tuple[dict[str, Any], ...]]]:
    """Return the settings of each choice, each with its rows: one choice for all folds together, or one for each.

    One for all where every setting stands in all folds. A search has points of its own in each: to choose among those
    that all folds share would leave some out, or all of them.
    """
    folds = sorted({row["fold"] for row in rows})
    settings: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        # As text, since an absent lambda is NaN, which is not equal to itself.
        settings.setdefault(str([row[name] for name in (*_SETTING, "ranks")]), []).append(row)
    whole = [tuple(sorted(of_setting, key=lambda row: row["fold"])) for of_setting in settings.values()]
    if all([row["fold"] for row in of_setting] == folds for of_setting in whole):
        return [whole]
    return [[(row,) for row in rows if row["fold"] == fold] for fold in folds]


def _lines(
    settings: Sequence[tuple[dict[str, Any], ...]], rule: Rule, tested: Mapping[str, Tested], rank: int | None
) -> list[dict[str, Any]]:
    """Return what a rule picks among settings: a line for each row of the picked one."""
    if not settings:
        return []
    if rule.looks_at_target and settings[0][0]["target_out"] is None:
        return _on_target(settings, rule, tested, rank)
    column = "target_out" if rule.crossed else rule.score
    strands = [_Strand((row,), row[column]) for (row,) in settings]
    pick = _best(strands, rank) or _settled(strands)
    if pick is None or pick.strand.scores is None:
        return []
    (row,), (correct,) = pick.strand.rows, pick.correct()
    measures = {m.name: row[m.name][pick.index] for m in METRICS}
    calibrated = pick.index == best_index(row[rule.score])  # at the row's own pick alone
    kept = {name: row.get(f"{name}_{rule.name}", math.nan) if calibrated else math.nan for name in _KEPT}
    return [_line(row, pick.index, pick.strand.scores[pick.index], measures, correct) | kept]


def _best(strands: Sequence[_Strand], rank: int | None) -> _Pick | None:
    """Return the strand and rank with the highest score; `rank` is the only one that counts, or None."""
    best: _Pick | None = None
    highest = (-math.inf, 0)
    for strand in strands:
        scores, ranks = strand.scores, strand.rows[0]["ranks"]
        index = best_index(scores if rank is None or scores is None else _only(scores, ranks.index(rank)))
        if index is not None and scores is not None and (scores[index], ranks[index]) > highest:
            best, highest = _Pick(strand, index), (scores[index], ranks[index])
    return best


def _settled(strands: Sequence[_Strand]) -> _Pick | None:
    """Return the only setting of an imported method, if it has only one: its author chose it, whatever the rule."""
    only, *others = strands
    settled = not others and only.rows[0].get("projection") == IMPORTED and only.scores is not None
    return _Pick(only, 0) if settled else None


def _only(scores: Sequence[float], index: int) -> list[float]:
    return [score if i == index else math.nan for i, score in enumerate(scores)]


def _on_target(
    settings: Sequence[tuple[dict[str, Any], ...]], rule: Rule, tested: Mapping[str, Tested], rank: int | None
) -> list[dict[str, Any]]:
    """Return the lines of a choice by the tested images: by all of them, or crossed, each half as the other chose."""
    rows = settings[0]
    of_rows = [tested[row["tested"]] for row in rows]
    images = reduce(add, of_rows)
    first = images.halves(int(rows[0]["seed"])) if rule.crossed else np.ones(len(images), dtype=bool)
    parts = [first, ~first] if rule.crossed else [first]
    scores = [_accuracies(of_setting, images, parts) for of_setting in settings]
    picks = [
        _best([_Strand(of_setting, s[i]) for of_setting, s in zip(settings, scores, strict=True)], rank)
        for i in range(len(parts))
    ]
    chosen, other = picks[0], picks[-1]
    if chosen is None or other is None:
        return []  # a half has no image of its own
    lines = []
    halves = np.split(first, np.cumsum([len(of_row) for of_row in of_rows])[:-1])
    answers = zip(chosen.strand.rows, of_rows, halves, chosen.correct(), other.correct(), strict=True)
    for row, of_row, half, by_first, by_second in answers:
        correct = np.where(half, by_second, by_first) if rule.crossed else by_first
        score = math.nan if rule.crossed or chosen.strand.scores is None else chosen.strand.scores[chosen.index]
        line = _line(row, chosen.index, score, measured(correct, of_row, row), correct)
        lines.append(line | dict.fromkeys(_KEPT, math.nan))
    return lines


def _accuracies(
    rows: Sequence[dict[str, Any]], images: Tested, parts: Sequence[NDArray[np.bool_]]
) -> list[list[float]]:
    """Return the accuracies of a setting at every rank on each part of the images of its rows, taken together."""
    correct = np.concatenate([unpacked(row) for row in rows], axis=1)
    if rows[0]["class_half"] != "harmonic":
        return [accuracy(correct[:, part]).tolist() for part in parts]
    new = images.label >= rows[0]["n_base"]
    return [
        harmonic_mean(accuracy(correct[:, part & ~new]), accuracy(correct[:, part & new])).tolist() for part in parts
    ]


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
_SETTING = ("lambda_", "intervention_set", "normalize", "predictor_params", "projection_params")
_COPIED = (*_SETTING, "n_test", "tested")


def _looked_at() -> list[str]:
    """Return the columns of the rows that any rule, or what is made of its pick, looks at."""
    named = [*KEY, "projection", "class_half", "n_base", "n_classes", "ranks", "target_out", "correct", *_COPIED]
    named += [metric.name for metric in METRICS] + [rule.score for rule in RULES.values()]
    return list(dict.fromkeys([*named, *(f"{name}_{rule}" for name in _KEPT for rule in SOURCE_RULES)]))


def _line(
    row: dict[str, Any], index: int, score: float, measures: dict[str, float], correct: NDArray[np.bool_]
) -> dict[str, Any]:
    return {
        **{name: row[name] for name in KEY},
        "position": row["position"],
        "rank": row["ranks"][index],
        "score": score,
        "training_domain": row["training_domain"][index],
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
