"""Selection rules as pure functions of result rows (Gulrajani and Lopez-Paz, 2021, section 3).

For each held-out environment, seed and fold a rule selects all hyperparameters of a method: rank, lambda, intervention
set, normalisation and the predictor's parameters. Explain a new rule in docs/comparisons.md; tests/docs checks this. A
new score in `_OF_SOURCES` also needs a field in `RankCurve` and a higher `VERSION` in `benchmark/store/rows.py`.

Ties go to the larger rank, which changes embeddings less, and then to the first row.

One-standard-error rules (Breiman et al. 1984, section 3.4.3) keep plain prediction unless the candidate with the
highest score is better by more than one standard error of their paired difference on the source environments.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.method.arrays import Array, Labels, Mask
from benchmark.method.evaluation.metrics import ACCURACY, CURVES, ECE, AnswersOfSets, Metric, harmonic_mean
from benchmark.method.evaluation.tested import Tested

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rule:
    """A model selection rule: which score it maximises, and under which condition."""

    name: str  # name of the rule in tables and in column names of rows
    score: str  # column of the rows, a rank curve, whose maximum is selected
    meaning: str  # description of the score, for captions
    looks_at_target: bool = False  # whether the score uses held-out images, so that numbers are no result
    # whether plain prediction is kept unless the highest score is more than one standard error above its score
    one_se: bool = False
    # whether each half of the test images selects for the other half, so that no image both selects and tests. If rows
    # have the accuracy on the target's out-split, this accuracy selects instead
    crossed: bool = False

    @property
    def base(self) -> str:
        """Name of the rule with the same score, without the one-standard-error condition."""
        return self.score if self.one_se else self.name


# Rule -> description of its score. One-standard-error rules use the same scores.
_OF_SOURCES = {
    "training_domain": "highest mean accuracy on images of the source environments that the fit has not seen",
    "lodo": "highest mean accuracy when each source environment in turn is left out, refitted and tested on",
}
_OR_PLAIN = "and plain prediction unless that is ahead of it by more than one standard error"
RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        *(Rule(name, name, meaning) for name, meaning in _OF_SOURCES.items()),
        *(Rule(f"{name}_1se", name, f"the careful rule, as {name}, {_OR_PLAIN}", one_se=True) for name in _OF_SOURCES),
        Rule(
            "oracle",
            ACCURACY.key,
            "chosen on one half of the tested images and reported on the other, both ways: what labels of the held-out "
            "environment would be worth, no result",
            looks_at_target=True,
            crossed=True,
        ),
        Rule(
            "ceiling",
            ACCURACY.key,
            "highest of the very accuracies that are reported: a bound that is biased upwards, no result",
            looks_at_target=True,
        ),
    )
}
SOURCE_RULES = tuple(rule.name for rule in RULES.values() if not rule.looks_at_target)
SCORES = tuple(_OF_SOURCES)  # rules that select the highest score on the sources
KEY = ("held_out", "seed", "fold")
SETTING = ("lambda_", "intervention_set", "normalize", "predictor_params", "projection_params")  # without the rank
IMPORTED = "imported"  # value of `projection` for imported predictions of a method trained elsewhere
PLAIN = "identity"  # value of `projection` for plain prediction


Bits = NDArray[np.uint8]
_BLOCK = 64 * 2**20  # bytes of correctness processed at a time
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


def best_point(scores: Array | None) -> tuple[int, int] | None:
    """Return (rank index, setting index) of the highest of `scores`, shape (settings, ranks); None without scores."""
    if scores is None or np.isnan(scores).all():
        return None
    best = np.argwhere(scores == np.nanmax(scores))
    setting, index = min(best.tolist(), key=lambda place: (-place[1], place[0]))
    return index, setting


def best_points(scores: Array | None) -> set[tuple[int, int]]:
    """Return for each setting (rank index, setting index) of its highest score, as a set; empty without scores."""
    if scores is None:
        return set()
    found = ((setting, best_point(of_setting[None])) for setting, of_setting in enumerate(scores))
    return {(best[0], setting) for setting, best in found if best is not None}


def best_of(
    scores: Sequence[Sequence[float] | None], ranks: Sequence[int], rank: int | None = None
) -> tuple[int, int] | None:
    """Return (index of the rank curve with the highest score, index of the rank in it); None without scores."""
    curves = curves_of([ranks] * len(scores))
    for place in highest(curves.scores(scores), curves, np.zeros(len(scores), np.int64), rank).tolist():
        return (int(curves.curve[place]), int(curves.index[place])) if place >= 0 else None
    return None


def picked_by_sources(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return, in ascending order, the positions of the rows that at least one rule of `SCORES` selects.

    All rows must belong to one method; they may belong to several tests. If only the returned rows are kept, these
    rules select the same.
    """
    return sorted({position for rule in SCORES for position, _ in picks_of(rows, rule).values()})


def picks_of(rows: Sequence[Mapping[str, Any]], rule: str) -> dict[tuple[object, ...], tuple[int, int]]:
    """Return for each test what a rule of `SCORES` selects among rows of one method.

    The result maps a test to (position of the row, index of the rank). Tests without a score are absent.
    """
    tests: dict[tuple[object, ...], list[int]] = {}
    for position, row in enumerate(rows):
        tests.setdefault(tuple(row[name] for name in (*KEY, "test_split", "class_half")), []).append(position)
    places = [position for positions in tests.values() for position in positions]
    choice = np.repeat(np.arange(len(tests)), [len(positions) for positions in tests.values()])
    curves = curves_of([rows[i]["ranks"] for i in places])
    found = highest(curves.scores(rows[i][RULES[rule].score] for i in places), curves, choice)
    picked = zip(tests, found.tolist(), strict=True)
    return {test: (places[curves.curve[at]], int(curves.index[at])) for test, at in picked if at >= 0}


def select(rows: "pd.DataFrame | Rows", rule: str, tested: Mapping[str, Tested], rank: int | None = None) -> "Picks":
    """Select one row and one rank for every (held_out, seed, fold) among the rows of one method.

    A rule that uses only sources selects for each fold separately, without the fold's test images. A rule that uses the
    target selects one setting for all folds together, if all settings are present in all folds. Otherwise it selects
    one for each fold, as in a search, which has its own points in each fold.

    A one-standard-error rule selects the best candidate only if it is more than one standard error better than plain
    prediction. Otherwise it selects the row of plain prediction with the candidate's normalisation and the highest
    score. It selects nothing if plain prediction has no rows, or if the candidate's row has no standard errors, as
    before version 9 of the rows. The condition is ignored for plain prediction itself, imported methods, methods with
    one candidate, and if `rank` is given.

    Args:
        rows: rows as in `benchmark.store.rows.schema()`, of one data set, backbone, test split and method. Use `Rows`
            for several rules or ranks, and for one-standard-error rules, which also need rows of plain prediction.
        rule: name of one of `RULES`.
        tested: hash in the column `tested` of rows -> test images.
        rank: the only rank that may be selected. Default: all ranks.

    Returns:
        One line per (held_out, seed, fold), sorted. Lines without a score of the rule are absent. The exception is an
        imported method with one setting, which is present under every rule that has scores there. The columns are:
        held_out, seed, fold, rank, score of the rule,
        position: number of the selected row in `rows`; rows of plain prediction are numbered after them,
        kept_plain: whether a one-standard-error rule kept plain prediction,
        training_domain: accuracy on validation images of the sources,
        the key of each metric in `CURVES`: its value on the test images,
        correct: whether each test image is classified correctly,
        ece, ece_scaled, temperature: calibration. Rows have it only at the ranks that source rules select in each row.
        For other ranks, and for rules that use the target, it is NaN,
        scored: key -> value of each metric of scores; it is empty at other ranks and for rules that use the target,
        lambda_, intervention_set, normalize, predictor_params, projection_params, n_test, tested: as in the row.
        For crossed rules, position, rank and parameters are those that the first half of the test images selects.
    """
    chosen, columns = RULES[rule], rows if isinstance(rows, Rows) else Rows(rows)
    choices = columns.choices(chosen.looks_at_target, rank)
    known = np.ones(len(choices.row), dtype=bool)
    if chosen.looks_at_target:  # and rows have no accuracy on the target's out-split
        firsts = choices.row[_first_positions(choices.choice)]
        known = np.array([not _absent(scores) for scores in columns.at("target_out", firsts)], dtype=bool)
        known = known[choices.choice]
    found = [_lines_by_score(columns, choices.of(known), chosen, rank)] if known.any() else []
    found += [_lines_by_target(columns, choices.of(~known), chosen, tested, rank)] if not known.all() else []
    names = ["position", "kept_plain", "rank", "score", "training_domain", *(metric.key for metric in CURVES)]
    names += ["correct", *_CALIBRATION, "scored", *_COPIED]
    filled = [lines for lines in found if len(lines["choice"])]
    if len(filled) == 1:
        return Picks({name: filled[0][name] for name in (*KEY, *names)})
    order = np.argsort([number for lines in filled for number in lines["choice"].tolist()], kind="stable")
    every = {name: [value for lines in filled for value in lines[name]] for name in (*KEY, *names)}
    return Picks(every).where(order)


class Picks:
    """Selected rows as named columns, one line per selection. For a few lines this is faster than a data frame.

    Args:
        columns: name -> one value for each line. Numbers become a numeric array with NaN for None. Other values become
            an array of objects.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        self._columns = {name: _array(values) for name, values in columns.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def where(self, lines: Labels | Mask) -> "Picks":
        """Return the lines at some positions or in a mask."""
        return Picks({name: values[lines] for name, values in self._columns.items()})

    def frame(self) -> "pd.DataFrame":
        """Return the selections as a data frame."""
        import pandas as pd

        return pd.DataFrame(self._columns)


def _array(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    types = {*map(type, values)}
    if types in ({bool}, {int}):
        return np.array(values)
    if types & {float, int} and types <= {float, int, type(None)}:
        return np.array(values, dtype=np.float64)
    return np.fromiter(values, dtype=object, count=len(values))


class Rows:
    """Rows of one method, prepared once for `select` with all rules and ranks.

    `plain`: rows of plain prediction with the same predictor, only needed for one-standard-error rules.
    """

    def __init__(self, rows: "pd.DataFrame", plain: "pd.DataFrame | None" = None) -> None:
        self._rows, self._plain = rows, plain
        self._values: dict[str, NDArray[Any]] = {}
        self._choices: dict[tuple[bool, int | None], _Choices] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows.columns

    def values(self, name: str) -> NDArray[Any]:
        """Return a column: the values of the rows, then of the rows of plain prediction."""
        if name not in self._values:
            values = self._rows[name].to_numpy()
            if self._plain is not None:
                values = np.concatenate([values, self._plain[name].to_numpy()])
            self._values[name] = values
        return self._values[name]

    @cached_property
    def plain(self) -> dict[tuple[object, ...], tuple[int, float]]:
        """(held_out, seed, fold, normalize, score name) -> best row of plain prediction, as (position, score)."""
        best: dict[tuple[object, ...], tuple[int, float]] = {}
        rows = np.arange(len(self), len(self) + len(self._plain)) if self._plain is not None else np.zeros(0, np.int64)
        keys = zip(*(self.at(name, rows) for name in (*KEY, "normalize")), strict=True)
        for row, key in zip(rows.tolist(), keys, strict=True):
            for name in SCORES:
                scores = self.values(name)[row]
                score = math.nan if _absent(scores) else scores[-1]
                if score > best.get((*key, name), (0, -math.inf))[1]:  # false for NaN
                    best[*key, name] = row, score
        return best

    def at(self, name: str, positions: Labels) -> list[Any]:
        """Return the values of a column for the rows at some positions."""
        return list(self.values(name)[positions].tolist())

    def choices(self, together: bool, rank: int | None) -> "_Choices":
        """Return the candidate rows in groups, see `_choices_of`."""
        if (together, rank) not in self._choices:
            # Only rows with an accuracy on test images and with the requested rank.
            values = zip(self.values("n_test"), self.values(ACCURACY.key), self.values("ranks"), strict=True)
            own = itertools.islice(values, len(self))
            there = (n and not math.isnan(curve[-1]) and (rank is None or rank in ranks) for n, curve, ranks in own)
            rows = np.flatnonzero(np.fromiter(there, dtype=bool, count=len(self)))
            self._choices[together, rank] = _choices_of(self, rows, together)
        return self._choices[together, rank]


@dataclass(frozen=True)
class _Choices:
    """Candidate rows in groups (choices). A rule selects one setting from each choice.

    Rows are sorted by choice, then setting, then fold.
    """

    row: Labels  # positions of the candidate rows, shape (n,)
    setting: Labels  # number of the setting of each row, shape (n,); rows of a setting are selected together
    choice: Labels  # number of the choice of each row, shape (n,)
    number: Labels  # for each choice, its position in the reported order

    def of(self, which: Mask) -> "_Choices":
        """Return the choices whose rows are in the mask `which`."""
        if which.all():
            return self
        numbers = self.number[self.choice[which][_first_positions(self.choice[which])]]
        return _Choices(self.row[which], _run_numbers(self.setting[which]), _run_numbers(self.choice[which]), numbers)


def _first_positions(numbers: Labels) -> Labels:
    """Return the position of the first occurrence of each number; `numbers` must be ascending."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))


def _run_numbers(*keys: NDArray[Any]) -> Labels:
    """Return the number of the run that each position is in. A new run begins wherever a key changes."""
    changes = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.cumsum(changes)


def _absent(value: object) -> bool:
    """Return whether the value of a list column is missing."""
    return value is None or isinstance(value, float)


def _choices_of(columns: Rows, rows: Labels, together: bool) -> _Choices:
    """Group rows into choices: one choice for each fold, or with `together` one for all folds.

    All folds can only form one choice if all settings are in all folds. In a search each fold has its own points, so
    each fold stays a choice of its own.
    """
    names, seeds, folds = (columns.at(name, rows) for name in KEY)
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    keys = np.array([[places[name] for name in names], seeds, folds], dtype=np.int64)
    order = np.lexsort(keys[1::-1] if together else keys[::-1])
    rows, (held_out, seed, fold) = rows[order], keys[:, order]
    test = _run_numbers(held_out, seed) if together else _run_numbers(held_out, seed, fold)
    position = np.arange(len(rows))
    if not together or not (_run_numbers(test, fold) != test).any():
        return _Choices(rows, position, test, np.arange(len(rows)))
    first, whole = _settings(columns, rows, test, fold)
    order = np.lexsort((np.where(whole, fold, position), np.where(whole, first, fold), test))
    test, in_choice, in_setting = test[order], np.where(whole, -1, fold)[order], np.where(whole, first, position)[order]
    choice = _run_numbers(test, in_choice)
    return _Choices(rows[order], _run_numbers(choice, in_setting), choice, np.arange(len(rows)))


def _settings(columns: Rows, rows: Labels, test: Labels, fold: Labels) -> tuple[Labels, Mask]:
    """Return for each row the first position of its setting, and whether its test has all settings in all folds."""
    values = zip(test.tolist(), *(columns.at(name, rows) for name in (*SETTING, "ranks")), strict=True)
    first: dict[tuple[object, ...], int] = {}
    # An absent lambda is NaN, which does not equal itself, so it becomes None.
    keys = (tuple(None if v != v else tuple(v) if isinstance(v, list) else v for v in of_row) for of_row in values)
    setting = np.array([first.setdefault(key, place) for place, key in enumerate(keys)], dtype=np.int64)
    number = np.unique(setting, return_inverse=True)[1]
    in_fold = np.unique(np.stack([number, fold], axis=1), axis=0)[:, 0]  # each fold of a setting counts once
    folds = np.bincount(np.unique(np.stack([test, fold], axis=1), axis=0)[:, 0])[test]
    each = (np.bincount(number)[number] == folds) & (np.bincount(in_fold)[number] == folds)
    return setting, np.logical_and.reduceat(each, _first_positions(test))[test]


def _lines_by_score(columns: Rows, choices: _Choices, rule: Rule, rank: int | None) -> dict[str, Any]:
    """Select by scores in the rows, and return the selected lines, one per selection."""
    listed = columns.at("target_out" if rule.crossed else rule.score, choices.row)
    curves = curves_of(columns.at("ranks", choices.row))
    scores = curves.scores(listed)
    place = highest(scores, curves, choices.choice, rank)
    for number, only in _only_candidates(columns, choices, listed) if (place < 0).any() else ():
        place[number] = curves.starts[only] if place[number] < 0 else place[number]
    choice = np.flatnonzero(place >= 0)
    place = place[choice]
    row, index = choices.row[curves.curve[place]], curves.index[place]
    own = place == highest(scores, curves, np.arange(len(choices.row)))[curves.curve[place]]  # the row's best rank
    score, kept_plain = scores[place], np.zeros(len(place), dtype=np.bool_)
    if rule.one_se and rank is None:
        alone = (np.bincount(choices.choice, weights=curves.sizes) == 1)[choice]
        plain, of_plain = _plain_fallbacks(columns, row, index, score, rule, alone)
        kept_plain, there = plain >= 0, (plain != _NO_ROW)
        row, index = np.where(kept_plain, plain, row)[there], np.where(kept_plain, 0, index)[there]
        own, score, choice = (own | kept_plain)[there], np.where(kept_plain, of_plain, score)[there], choice[there]
        kept_plain = kept_plain[there]
        at_end = np.flatnonzero(kept_plain)
        index[at_end] = [len(ranks) - 1 for ranks in columns.at("ranks", row[at_end])]
    kept = {name: np.full(len(row), math.nan).tolist() for name in _CALIBRATION}
    for name in _CALIBRATION:
        if (column := f"{name}_{rule.base}") in columns:
            kept[name] = np.where(own, np.array(columns.at(column, row), dtype=np.float64), math.nan).tolist()
    listed = columns.at(column, row) if (column := f"scored_{rule.base}") in columns else [None] * len(row)
    none: dict[str, float] = {}  # one object for many lines
    scored = [
        dict(one or ()) | {ECE.key: ece} if is_own and (one or not math.isnan(ece)) else none
        for one, ece, is_own in zip(listed, kept["ece"], own, strict=True)
    ]
    numbers = choices.number[choice]
    measures = {m.key: _at_index(columns.at(m.key, row), index) for m in CURVES}
    correct = _answers(columns, row, index)
    more = {**measures, **kept, "scored": scored, "kept_plain": kept_plain}
    return _lines(columns, numbers, row, index, score.tolist(), correct, more)


_NO_ROW = -2  # nothing is selected, neither the best candidate nor plain prediction


def _plain_fallbacks(
    columns: Rows, rows: Labels, index: Labels, scores: Array, rule: Rule, alone: Mask
) -> tuple[Labels, Array]:
    """Return for each choice the row of plain prediction, if it is kept, and its score.

    The row is -1 if the candidate is selected. It is `_NO_ROW` without rows of plain prediction or without standard
    errors. `rows`, `index` and `scores` belong to the best candidate of each choice. `alone`: whether it is the only
    candidate.
    """
    free = alone | np.isin(columns.values("projection")[rows], [IMPORTED, PLAIN])
    kept, of_plain = np.full(len(rows), -1, dtype=np.int64), np.full(len(rows), math.nan)
    keys = list(zip(*(columns.at(name, rows) for name in (*KEY, "normalize")), strict=True))
    errors = columns.at(f"{rule.score}_se", rows)
    for i in np.flatnonzero(~free).tolist():
        row, score = columns.plain.get((*keys[i], rule.score), (_NO_ROW, math.nan))
        if _absent(errors[i]):
            kept[i] = _NO_ROW
        elif not scores[i] - score > errors[i][index[i]]:  # true for NaN
            kept[i], of_plain[i] = row, score
    return kept, of_plain


def _only_candidates(columns: Rows, choices: _Choices, listed: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yield (choice, row) for choices with only one candidate, or one setting of an imported method.

    They are selected even if their score is NaN.
    """
    starts = _first_positions(choices.choice)
    alone = np.flatnonzero(np.diff(starts, append=len(choices.row)) == 1)
    if "projection" not in columns:
        return
    for choice, start in zip(alone.tolist(), starts[alone].tolist(), strict=True):
        (name,), (ranks,) = (columns.at(column, choices.row[[start]]) for column in ("projection", "ranks"))
        if not _absent(listed[start]) and (name == IMPORTED or len(ranks) == 1):
            yield choice, start


def _lines_by_target(
    columns: Rows, choices: _Choices, rule: Rule, tested: Mapping[str, Tested], rank: int | None
) -> dict[str, Any]:
    """Select by test images, all together or crossed by halves; return the lines, one per selection."""
    settings, firsts = _first_positions(choices.setting), _first_positions(choices.choice)
    number = choices.choice[settings]  # the choice of each setting
    folds = np.diff(settings, append=len(choices.row))[_first_positions(number)]  # number of folds of each choice
    rows = _ranges(firsts, folds)  # rows of the first setting of each choice
    images = [tested[name] for name in columns.at("tested", choices.row[rows])]
    parts = list(_parts_of(columns, choices.row[rows], images, folds, rule.crossed))
    curves = curves_of(columns.at("ranks", choices.row[settings]))
    mask = (np.cumsum(folds) - folds)[choices.choice] + np.arange(len(choices.row)) - settings[choices.setting]
    right = _right(columns, choices, curves, [bits for part in parts for bits in part.masks], mask)
    totals = np.array([part.totals for part in parts]).T[:, number[curves.curve]]
    with np.errstate(invalid="ignore"):
        scores = right / totals
    if len(scores) > 1 + rule.crossed:  # parts of base and of new classes
        scores = harmonic_mean(scores[0::2], scores[1::2])
    places = np.array([highest(of_part, curves, number, rank) for of_part in scores])
    choice = np.flatnonzero((places >= 0).all(axis=0))  # otherwise a half is empty
    chosen, other = places[0, choice], places[-1, choice]
    line = np.repeat(np.arange(len(choice)), folds[choice])
    row, index = _rows_at(choices, settings, curves, chosen, folds[choice]), curves.index[chosen][line]
    correct = _answers(columns, row, index)
    if rule.crossed:
        others = _rows_at(choices, settings, curves, other, folds[choice])
        by_other = _answers(columns, others, curves.index[other][line])
        halves = [half for number_ in choice.tolist() for half in parts[number_].halves]
        correct = [np.where(half, b, a) for half, a, b in zip(halves, correct, by_other, strict=True)]
    score = [math.nan] * len(row) if rule.crossed else scores[0][chosen][line].tolist()
    of_lines = [images[i] for i in _ranges((np.cumsum(folds) - folds)[choice], folds[choice]).tolist()]
    about = _records(columns, row, ("class_half", "n_base", "n_classes"))
    named = {m.key: np.full(len(row), math.nan) for m in CURVES}
    for kind in {tuple(one.values()): one for one in about}.values():
        at = [i for i, one in enumerate(about) if one == kind]
        for name, values in measured([correct[i] for i in at], [of_lines[i] for i in at], kind).items():
            named[name][at] = values
    unknown = {
        **{name: [math.nan] * len(row) for name in _CALIBRATION},
        "scored": [{} for _ in row],
        "kept_plain": [False] * len(row),
    }
    return _lines(columns, choices.number[choice][line], row, index, score, correct, {**named, **unknown})


def _ranges(starts: Labels, sizes: Labels) -> Labels:
    """Return concatenated integer ranges with these starts and sizes."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(int(ends[-1]) if len(ends) else 0)


def _rows_at(choices: _Choices, settings: Labels, curves: "Curves", places: Labels, folds: Labels) -> Labels:
    """Return for each position in the curves the rows of its setting, one row for each fold, concatenated."""
    return choices.row[_ranges(settings[curves.curve[places]], folds)]


def _right(columns: Rows, choices: _Choices, curves: "Curves", masks: Sequence[Bits], mask: Labels) -> Array:
    """Return for each part the number of correct predictions at every setting and rank, folds pooled: (parts, n)."""
    of_rows = curves_of(columns.at("ranks", choices.row))
    counts = hits(columns.at("correct", choices.row), of_rows, masks, mask)
    into = curves.starts[choices.setting[of_rows.curve]] + of_rows.index
    return np.array([np.bincount(into, weights=of_part, minlength=len(curves.ranks)) for of_part in counts])


@dataclass(frozen=True)
class _Parts:
    """Parts of the test images of a choice: halves, and base and new classes."""

    halves: tuple[Mask, ...]  # for each fold, a mask of the first half; all images if not crossed
    masks: tuple[Bits, ...]  # for each fold, the images of each part as bits, shape (parts, bytes)
    totals: tuple[int, ...]  # number of images of each part


def _parts_of(columns: Rows, rows: Labels, images: Sequence[Tested], folds: Labels, crossed: bool) -> Iterator[_Parts]:
    """Yield the parts of each choice. `images` are ordered by fold."""
    begins = (np.cumsum(folds) - folds).tolist()
    about = zip(begins, folds.tolist(), _records(columns, rows[begins], ("seed", "class_half", "n_base")), strict=True)
    for begin, n, row in about:
        new_from = int(row["n_base"]) if row["class_half"] == "harmonic" else None
        yield _parts(tuple(images[begin : begin + n]), int(row["seed"]), crossed, new_from)


@lru_cache(maxsize=8192)  # cached, since every method is tested on the same images
def _parts(folds: tuple[Tested, ...], seed: int, crossed: bool, new_from: int | None) -> _Parts:
    images = reduce(add, folds)
    first = images.halves(seed) if crossed else np.ones(len(images), dtype=bool)
    parts = [first, ~first] if crossed else [first]
    if new_from is not None:
        new = images.label >= new_from
        parts = [part & half for part in parts for half in (~new, new)]
    cuts = np.cumsum([len(of_fold) for of_fold in folds])[:-1]
    masks = tuple(np.packbits(of_fold, axis=1) for of_fold in np.split(np.array(parts), cuts, axis=1))
    return _Parts(tuple(np.split(first, cuts)), masks, tuple(int(part.sum()) for part in parts))


def measured(
    correct: Sequence[Mask], images: Sequence[Tested], row: Mapping[str, Any], among: Sequence[Metric] = ()
) -> dict[str, Array]:
    """Return metrics of test sets. If rows are for base and new classes together, both values are combined.

    The result maps the key of each metric in `among` (default: `CURVES`) to its values, shape (sets,). `row` is any row
    of these sets; it gives class_half, n_base and n_classes.
    """
    among = among or CURVES
    if not images:
        return {metric.key: np.zeros(0) for metric in among}
    of = np.repeat(np.arange(len(images)), [len(one) for one in images])
    every, label = np.concatenate(correct), np.concatenate([one.label for one in images])
    n, sets = int(row["n_classes"]), len(images)
    answers = [AnswersOfSets(every, label, n, of=of, sets=sets)]
    if row["class_half"] == "harmonic":
        halves = label < row["n_base"], label >= row["n_base"]
        answers = [AnswersOfSets(every[w], label[w], n, of=of[w], sets=sets) for w in halves]
    curves = {metric: [np.asarray(metric.compute(of_half)) for of_half in answers] for metric in among}
    return {m.key: of_metric[0] if len(of_metric) == 1 else m.combine(*of_metric) for m, of_metric in curves.items()}


_CALIBRATION = ("ece", "ece_scaled", "temperature")  # rows have these for each rule that uses only sources
_COPIED = (*SETTING, "n_test", "tested")


def _at_index(curves: Sequence[Sequence[Any]], index: Labels) -> list[Any]:
    """Return for each curve its value at the given index."""
    return [curve[i] for curve, i in zip(curves, index.tolist(), strict=True)]


def _records(columns: Rows, rows: Labels, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each of some rows a dictionary: name of a column -> value."""
    values = zip(*(columns.at(name, rows) for name in names), strict=True)
    return [dict(zip(names, of_row, strict=True)) for of_row in values]


def _answers(columns: Rows, rows: Labels, index: Labels) -> list[Mask]:
    """Return for each of some rows its correctness at one rank; `index`: index of this rank in each row."""
    bits = zip(columns.at("correct", rows), map(len, columns.at("ranks", rows)), index.tolist(), strict=True)
    picked = [np.frombuffer(of_row, np.uint8).reshape(ranks, -1)[i] for of_row, ranks, i in bits]
    sizes = np.array(columns.at("n_test", rows), dtype=np.int64)
    if len(set(sizes.tolist())) == 1:  # of equal size, so all at once
        return [*np.unpackbits(np.array(picked), axis=1, count=int(sizes[0])).view(np.bool_)]
    unpacked = zip(picked, sizes.tolist(), strict=True)
    return [np.unpackbits(of_row, count=n).view(np.bool_) for of_row, n in unpacked]


def _lines(
    columns: Rows,
    choice: Labels,
    rows: Labels,
    index: Labels,
    score: list[float],
    correct: list[Mask],
    measures: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a table, as a dictionary of columns, with one line for each selected row.

    Each line has a choice, a selected row and the index of its rank.
    """
    copied = ((name, columns.values(name)[rows]) for name in (*KEY, *_COPIED))
    return {
        "choice": choice,
        **{name: v.tolist() if v.dtype == object else v for name, v in copied},
        "position": rows,
        "rank": _at_index(columns.at("ranks", rows), index),
        "score": score,
        "training_domain": _at_index(columns.at("training_domain", rows), index),
        "correct": correct,
        **measures,
    }


def packed(correct: Mask) -> bytes:
    """Return correctness, shape (ranks, m), as bits. Each rank starts at a new byte."""
    return np.packbits(correct, axis=1).tobytes()


def unpacked(row: Mapping[str, Any]) -> Mask:
    """Return the correctness in a row, shape (ranks, m), from its columns correct, ranks and n_test."""
    bits = np.frombuffer(row["correct"], dtype=np.uint8).reshape(len(row["ranks"]), -1)
    return np.unpackbits(bits, axis=1, count=int(row["n_test"])).astype(bool)


def source_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return rule -> highest score of all rows and ranks, averaged over held-out environments, seeds and folds.

    The result has only rules that use source environments alone, and leaves out rules without a score. A search or
    scheduler gets no other result of a trial.
    """
    means = {}
    for rule in SCORES:
        best: dict[tuple[object, ...], float] = {}
        for row in rows:
            scores = [score for score in row[RULES[rule].score] or () if not np.isnan(score)]
            if scores:
                key = tuple(row[name] for name in KEY)
                best[key] = max(best.get(key, 0.0), *scores)
        if best:
            means[rule] = float(np.mean(list(best.values())))
    return means


# The functions below find the highest scores of many choices at once, and count correct predictions at every rank. To
# avoid loops, data of different lengths (settings per choice, ranks per setting) is concatenated into flat arrays with
# group numbers.


@dataclass(frozen=True)
class Curves:
    """Concatenated rank curves."""

    ranks: Labels  # shape (n,), ascending within each curve
    curve: Labels  # number of the curve of each value, ascending, shape (n,)
    index: Labels  # index within this curve, shape (n,)
    sizes: Labels  # number of ranks of each curve, shape (curves,)

    @property
    def starts(self) -> Labels:
        """Position of the first value of each curve, shape (curves,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    def scores(self, curves: Iterable[Sequence[float] | None]) -> Array:
        """Return the scores of all curves, concatenated, shape (n,); NaN for curves without scores."""
        padded = (
            scores if isinstance(scores, Sequence) and scores else (np.nan,) * size
            for scores, size in zip(curves, self.sizes.tolist(), strict=True)
        )
        return np.fromiter(itertools.chain.from_iterable(padded), np.float64, len(self.ranks))


def curves_of(ranks: Sequence[Sequence[int]]) -> Curves:
    """Return curves with these ranks."""
    sizes = np.fromiter(map(len, ranks), np.int64, len(ranks))
    curve = np.repeat(np.arange(len(ranks)), sizes)
    starts = np.cumsum(sizes) - sizes
    flat = np.fromiter(itertools.chain.from_iterable(ranks), np.int64, int(sizes.sum()))
    return Curves(flat, curve, np.arange(len(flat)) - starts[curve], sizes)


def highest(scores: Array, curves: Curves, choice: Labels, rank: int | None = None) -> Labels:
    """Return the position of each choice's highest score. Ties go to the larger rank, then to the first curve.

    NaN means no score. The position is -1 for a choice without scores. `choice`: number of the choice of each curve,
    ascending from 0. `rank`: the only rank considered; default: all ranks.
    """
    found = np.full(int(choice[-1]) + 1 if len(choice) else 0, -1, dtype=np.int64)
    counts = ~np.isnan(scores) if rank is None else ~np.isnan(scores) & (curves.ranks == rank)
    place = np.flatnonzero(counts)
    if not len(place):
        return found
    of_choice = choice[curves.curve[place]]
    for keys in (scores, curves.ranks):
        begins = np.concatenate([[True], of_choice[1:] != of_choice[:-1]])
        tops = np.maximum.reduceat(keys[place], np.flatnonzero(begins))
        best = keys[place] == tops[np.cumsum(begins) - 1]
        place, of_choice = place[best], of_choice[best]
    first = np.concatenate([[True], of_choice[1:] != of_choice[:-1]])
    found[of_choice[first]] = place[first]
    return found


def hits(answers: Sequence[bytes], curves: Curves, masks: Sequence[Bits], mask: Labels) -> Labels:
    """Return the number of correct predictions in each part of the images, at every rank of every curve, (parts, n).

    `answers`: correctness of each curve as bits; each rank starts at a new byte. `masks`: sets of parts, as bits of
    shape (parts, bytes per rank). `mask`: for each curve, its index in `masks`.
    """
    out = np.zeros((len(masks[0]) if masks else 0, len(curves.ranks)), dtype=np.int64)
    width = np.fromiter((of_set.shape[1] for of_set in masks), np.int64, len(masks))[mask]
    for ranks, bytes_ in np.unique(np.stack([curves.sizes, width], axis=1), axis=0).tolist():
        alike = np.flatnonzero((curves.sizes == ranks) & (width == bytes_))
        used, of_used = np.unique(mask[alike], return_inverse=True)
        parts = np.stack([_words(masks[i]) for i in used])
        block = max(1, _BLOCK // max(1, ranks * bytes_))
        for begin in range(0, len(alike), block):
            own = alike[begin : begin + block]
            joined = np.frombuffer(b"".join([answers[i] for i in own.tolist()]), dtype=np.uint8)
            words = _words(joined.reshape(len(own), ranks, bytes_))
            places = curves.starts[own][:, None] + np.arange(ranks)
            for k in range(len(out)):
                shared = words & parts[of_used[begin : begin + block], k, None]
                if hasattr(np, "bitwise_count"):  # NumPy 2
                    out[k, places] = np.bitwise_count(shared).sum(axis=-1, dtype=np.int64)
                else:
                    out[k, places] = _ONES[np.ascontiguousarray(shared).view(np.uint8)].sum(axis=-1, dtype=np.int64)
    return out


def _words(bits: Bits) -> NDArray[np.uint64]:
    """Return bits as words of eight bytes along the last axis, padded with zeros."""
    whole = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // 8) * 8), dtype=np.uint8)
    whole[..., : bits.shape[-1]] = bits
    return whole.view(np.uint64)
