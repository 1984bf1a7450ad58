"""Ablation tables: one setting (lambda, rank, intervention set, order, predictor) is fixed, a rule selects the others.

A table has a line for each value of this setting, and one for the rule's own picks, which has the numbers of the main
table. A rule that prefers plain prediction may keep it there, but not where a value is fixed. The columns are source
score, held-out accuracy, gain over plain prediction, and how often the rule picks the value.
"""
# A new table also needs an entry in `TABLES` of reports/tables/all.py.

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd

from benchmark.method.evaluation.answers import Answered
from benchmark.method.evaluation.selection import RULES, Picks
from reports.analysis.methods import ICM, PLAIN, SHRINKAGE, Method, as_rows_of, by_method, plain_for
from reports.analysis.selections import Selections, complete_estimate
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.by_method import PICKS, Entry, accuracy, methods_of, picks
from reports.tables.spec import Draft, Request, TableSpec, Values, source_fits
from reports.text.captions import OTHERS, kinds_of, pairs_of, place_of, set_words

MAX_VALUES = 16  # lines of a block; more values are thinned, see `thinned`
MANY_ROWS, FEW_VALUES = 20_000, 6  # a method with more rows gets fewer lines, since each value scans all rows
PICKED, KEPT = "by the rule", "plain prediction"
_SOURCE_SCORE = Column("source score", "Source score")
_HELD_OUT = Column("accuracy on what is held out", "Held out")  # `HELD_OUT` in reports/document/paper.py has this name
_GAIN = Column("minus plain", "− plain", unit="points")
_FIXED = (
    "Source score: score of the rule, mean over environments, seeds and folds. − plain: mean difference to plain "
    "prediction with the same predictor and images."
)
_KEEPS = (
    "With a fixed value the rule does not fall back to plain prediction; picks that do are counted in the line of "
    "plain prediction."
)
_SHOWN = (
    f"At most {MAX_VALUES} values are shown, {FEW_VALUES} of a method with more than {MANY_ROWS:,} rows: the ends, "
    "the most picked, and some between.",
)


T = TypeVar("T", int, float)


@dataclass(frozen=True)
class Value:
    """Results of a method with one setting fixed to a value.

    Attributes:
        entry: the method, in the settings of one backbone.
        picks: picks with the fixed value, see `Selections.picks`.
        pooled: which test images are classified correctly at these picks.
        trials: ids of the trials of these picks.
        times: (k, n): k of the rule's n unrestricted picks have the value; None if the rule never considers the value.
        equals_plain: whether all picks keep the full space, so that the method equals plain prediction.
    """

    entry: Entry
    picks: Picks
    pooled: Answered
    trials: tuple[str, ...]
    times: tuple[int, int] | None
    equals_plain: bool


def _value(
    entry: Entry, selections: Selections, rule: str, times: tuple[int, int] | None, rank: int | None = None
) -> Value:
    """Return the results at the rule's picks among the method's rows in `selections`, at one rank or over all ranks."""
    method = entry.method
    picks, pooled = selections.picks(method, rule, rank), selections.pooled(method, rule, rank)
    is_full = rank == int(selections.parts[method]["dim"].iloc[0])
    plain = is_full if rank is not None else cells.is_plain([selections], method, rule)
    return Value(entry, picks, pooled, cells.trials_of(selections, method, rule, rank=rank), times, plain)


def _of_rows(entry: Entry, rows: pd.DataFrame, times: tuple[int, int] | None) -> Value:
    """Return the results at the rule's picks among these rows alone, without plain prediction."""
    selections = Selections(as_rows_of(entry.method, rows), entry.selections.tested)
    return _value(entry, selections, RULES[entry.request.rule].base, times)


# (name, values) of each line: one value, or several that are averaged and shown with their range.
_Lines = Sequence[tuple[str, Sequence[Value]]]


def _caption(what: str, request: Request) -> str:
    return f"{request.what}: accuracy (%) by {what}, everything else chosen by the rule."


def _ablation(
    name: str,
    what: str,
    corner: str,
    values: Callable[[Entry], _Lines],
    takes_part: Callable[[Method], bool],
    own: Callable[[Request], Iterable[str]] = lambda _: _SHOWN,
) -> TableSpec[Sequence[Value]]:
    """Return a spec with a block for each backbone and method.

    A method has a block if `takes_part` is true for it and it has two values or more. `what` names the fixed setting,
    `corner` is the heading of its values, and `own` returns further notes.
    """

    def blocks(request: Request) -> Iterator[Draft[Sequence[Value]]]:
        for backbone, parts in request.backbones.items():
            for method in (m for m in methods_of(request.results) if takes_part(m) and m in parts[0][1].parts):
                entry = Entry(request, parts, method)
                found, lines = [*values(entry)], []
                for line, of_line in [*found, *_by_the_rule(entry)] if len(found) > 1 else []:
                    short = request.short(line) if len(of_line) == 1 else ""
                    lines.append((Line(line, (), short, all(one.equals_plain for one in of_line)), of_line))
                titles = [request.short(backbone)] if len(request.backbones) > 1 else []
                titles.append(f"{words.short_name(method, request.names)}, {request.short(method.predictor_label)}")
                yield Draft(", ".join(titles), lines, request.short(backbone))

    def notes(request: Request, table: Table) -> Iterator[str]:
        yield from (words.INTERVAL, _FIXED)
        yield (
            "Picked: how often the rule, which chooses for each environment, seed and fold, picks this "
            f"{what} by itself."
        )
        yield _KEEPS if any(line.name == KEPT for _, line in table.lines()) else ""
        yield from own(request) if table.blocks else ()

    def columns(_: Request) -> Iterator[Values[Sequence[Value]]]:
        yield Values(_SOURCE_SCORE, partial(_mean, lambda value: cells.source_score(value.picks)), marked=False)
        yield Values(_HELD_OUT, partial(_mean, _accuracy))
        yield Values(_GAIN, partial(_mean, _gain))
        yield Values(Column("times picked", "Picked", unit=""), _times, marked=False)

    return TableSpec(name, partial(_caption, what), blocks, columns, notes, "data set", source_fits, corner=corner)


def _by_the_rule(entry: Entry) -> _Lines:
    """Return the line of the rule's own picks, after the line of plain prediction if some of them keep it."""
    rule, selections = entry.request.rule, entry.selections
    picks, plain = selections.picks(entry.method, rule), plain_for(entry.method, selections.parts)
    n, kept = len(picks), int(picks["kept_plain"].sum())
    line = (PICKED, [_value(entry, selections, rule, (n, n))])
    if not kept or plain is None:
        return [line]
    return [(KEPT, [_value(replace(entry, method=plain), selections, rule, (kept, n))]), line]


def _accuracy(value: Value) -> Cell:
    request, selections = value.entry.request, value.entry.selections
    if (estimate := complete_estimate(selections, value.pooled)) is None:
        return Cell(note="not all that is held out has answers", bound=request.bound)
    more = {"folds": selections.folds, "trials": value.trials, "bound": request.bound}
    return cells.cell_of([estimate], request.options, **more)


def _gain(value: Value) -> Cell:
    request, selections = value.entry.request, value.entry.selections
    plain = plain_for(value.entry.method, selections.parts)
    if complete_estimate(selections, value.pooled) is None:
        return Cell(note="not all that is held out has answers", bound=request.bound)
    if plain is None or plain == value.entry.method:
        why = "no result rows of plain prediction" if plain is None else "plain prediction itself"
        return Cell(note=why, bound=request.bound)
    number = cells.minus(selections, value.pooled, plain, request.rule, request.options, value.trials)
    return number.of(request.bound).cell


def _times(values: Sequence[Value]) -> Cell:
    """Return the cell "k of n": k of the n unrestricted picks of the rule have one of the values."""
    times = [one.times for one in values if one.times]
    return cells.count(sum(k for k, _ in times), times[0][1]) if times else Cell(note="a choice of its own")


def _mean(cell: Callable[[Value], Cell], values: Sequence[Value]) -> Cell:
    """Return the cell of a single value. For several values, return the mean over all that have a number."""
    own = [cell(value) for value in values]
    known = [one.value for one in own if one.value is not None]
    if len(own) == 1 or not known:
        return own[0]
    missing, signed = len(own) - len(known), any(one.signed for one in own)
    return Cell(
        value=float(np.mean(known)),
        text=cells.range_text(known, own[0].decimals, signed),
        bound=any(one.bound for one in own),
        signed=signed,
        note=f"without {missing} of {len(own)}, which have none" if missing else None,
        trials=tuple(sorted({trial for one in own for trial in one.trials})),
    )


def _lambdas(entry: Entry) -> _Lines:
    rows = entry.selections.parts[entry.method]
    picks = entry.selections.picks(entry.method, entry.request.rule)
    found = sorted(float(value) for value in rows["lambda_"].dropna().unique())
    kept = thinned(found, picks["lambda_"].tolist(), _max_values(rows))
    return [(f"{x:g}", [_of_rows(entry, rows[rows["lambda_"] == x], _picked(picks, "lambda_", x))]) for x in kept]


def _ranks(entry: Entry) -> _Lines:
    selections = entry.selections
    rows, picks = selections.parts[entry.method], selections.picks(entry.method, entry.request.rule)
    found = sorted({int(rank) for ranks in rows["ranks"] for rank in ranks})
    kept = thinned(found, picks["rank"].tolist(), _max_values(rows))
    rule = entry.request.rule  # which does not fall back to plain prediction at a fixed rank
    return [(str(rank), [_value(entry, selections, rule, _picked(picks, "rank", rank), rank)]) for rank in kept]


def thinned(values: Sequence[T], picked: Iterable[T], max_values: int = MAX_VALUES) -> list[T]:
    """Return at most `max_values` of some ascending values: the ends, the most picked, and evenly spaced ones.

    At least three are kept.
    """
    if len(values) <= max_values:
        return list(values)
    counts: Counter[T] = Counter(value for value in picked if value in set(values))
    kept = {values[0], values[-1], *(value for value, _ in counts.most_common(max_values // 2))}
    even = [values[round(i)] for i in np.linspace(0, len(values) - 1, max_values).tolist()]
    for value in even:
        kept |= {value} if len(kept) < max_values else set()
    return [value for value in values if value in kept]


def _max_values(rows: pd.DataFrame) -> int:
    return MAX_VALUES if len(rows) <= MANY_ROWS else FEW_VALUES


def _picked(picks: Picks, column: str, value: object) -> tuple[int, int]:
    """Return (k, n): k of n picks have a value, and do not keep plain prediction."""
    return int(((picks[column] == value) & ~picks["kept_plain"]).sum()), len(picks)


LAMBDA = _ablation("ablation_lambda", "lambda", "Lambda", _lambdas, lambda m: m.is_paper or m.is_shrinkage)
RANK = _ablation(
    "ablation_rank",
    "rank",
    "Rank",
    _ranks,
    lambda m: m.projection in ("pca", "random", ICM) and not m.variant and m.order != "released",
)


def _by_predictor(request: Request) -> list[Method]:
    shown = [m for m in methods_of(request.results) if m.projection in (PLAIN, ICM, SHRINKAGE) and not m.variant]
    return [m for m in shown if m.order != "released"]


def _alternative(
    name: str,
    what: str,
    corner: str,
    shown: Callable[[Request], Sequence[Method]],
    title_of: Callable[[Request, Method], str],
    name_of: Callable[[Method], str],
) -> TableSpec[Entry]:
    """Return a spec of a table that compares methods. Each block has two or more methods under one backbone.

    `shown` returns the methods. Methods with equal `title_of` are in one block, in lines named by `name_of`.
    """

    def blocks(request: Request) -> Iterator[Draft[Entry]]:
        methods = shown(request)
        titles = list(dict.fromkeys(title_of(request, method) for method in methods))
        for backbone, parts in request.backbones.items():
            for title in titles:
                own = [m for m in methods if title_of(request, m) == title and m in parts[0][1].parts]
                named = [(name_of(method), Entry(request, parts, method)) for method in own]
                lines = [(Line(name, (), request.short(name), one.is_plain), one) for name, one in named]
                parts_of_title = [request.short(backbone)] if len(request.backbones) > 1 else []
                parts_of_title += [request.short(title)] if len(titles) > 1 else []
                yield Draft(", ".join(parts_of_title), lines if len(lines) > 1 else [], request.short(backbone))

    def notes(_: Request, table: Table) -> Iterator[str]:
        yield from (words.INTERVAL, _FIXED, words.PLAIN_PICKS if PICKS in table.columns else "")

    def columns(request: Request) -> Iterator[Values[Entry]]:
        yield Values(_SOURCE_SCORE, lambda one: cells.source_score(one.selections.picks(one.method, request.rule)))
        yield Values(_HELD_OUT, accuracy)
        yield Values(_GAIN, lambda entry: entry.gain().cell)
        yield from picks(request, shown(request))

    return TableSpec(name, partial(_caption, what), blocks, columns, notes, "data set", source_fits, corner=corner)


ORDER = _alternative(
    "ablation_order",
    "order of the eigenvectors",
    "Order",
    lambda request: [m for m in methods_of(request.results) if m.projection == ICM and not m.variant],
    lambda _, method: method.predictor_label,
    lambda method: str(method.order),
)
PREDICTOR = _alternative(
    "ablation_predictor",
    "predictor",
    "Predictor",
    _by_predictor,
    lambda request, method: words.short_name(method, request.names),
    lambda method: method.predictor_label,
)


_PER_DIMENSION = Column("source images for each dimension", "Images / D", unit="")


def _curve_blocks(request: Request) -> Iterator[Draft[Entry]]:
    """Yield a block for each backbone and method with fits on shares of the source images, a line for each share."""
    for backbone, parts in request.backbones.items():
        setting, selections = parts[0]
        curves = by_method(selections.curves) if len(selections.curves) else {}
        for method, rows in ((m, rows) for m, rows in curves.items() if m in selections.parts):
            plain = plain_for(method, selections.parts)
            lines = []
            for share, of_share in rows.groupby("train_share"):
                both = [of_share.assign(train_share=np.nan), *([selections.parts[plain]] if plain else [])]
                entry = Entry(request, [(setting, Selections(pd.concat(both), selections.tested))], method)
                lines.append((f"{100 * float(str(share)):g} %", entry))
            lines.append(("100 %", Entry(request, parts, method)))
            titles = [request.short(backbone)] if len(request.backbones) > 1 else []
            titles.append(f"{words.short_name(method, request.names)}, {request.short(method.predictor_label)}")
            subjects = [(Line(name, (), "", entry.is_plain), entry) for name, entry in lines]
            yield Draft(", ".join(titles), subjects, request.short(backbone))


def _curve_columns(request: Request) -> Iterator[Values[Entry]]:
    def images(entry: Entry) -> Cell:
        rows = entry.selections.chosen_rows(entry.method, RULES[request.rule].base, ("n_train", "dim"))
        return Cell(value=float((rows["n_train"] / rows["dim"]).mean()), decimals=2)

    yield Values(_PER_DIMENSION, images, marked=False)
    yield Values(_HELD_OUT, accuracy)
    yield Values(_GAIN, lambda entry: entry.gain().cell)


def _curve_notes(_: Request, table: Table) -> Iterator[str]:
    """Yield a sentence on the ends of the first learning curve, and what the columns are."""
    for block in table.blocks[:1]:
        lines = block.lines[0], block.lines[-1]
        names = [column.name for column in table.columns]
        images, gains = ([line.cells[names.index(one.name)].value for line in lines] for one in (_PER_DIMENSION, _GAIN))
        if None not in (*images, *gains):
            yield (
                f"{block.title}: {gains[0]:+.1f} points over plain prediction with {lines[0].name} of the source "
                f"images ({images[0]:.1f} for each dimension of the embeddings), {gains[1]:+.1f} with all "
                f"({images[1]:.1f})."
            )
    yield words.INTERVAL
    yield "Shares are those of tested fits; fits for selection have one fold at least. All images are tested."


LEARNING_CURVE = TableSpec(
    "learning_curve",
    partial(_caption, "share of the source images that a fit learns from"),
    _curve_blocks,
    _curve_columns,
    _curve_notes,
    "data set",
    source_fits,
    corner="Source images",
)


TEXT = json.dumps({"name": "text"})  # the kind of intervention that consists of pairs of texts, as in rows
_ON_SETS = (
    "A share of the pairs (of the images whose views enter C_d) is a method of its own, which the rule does not choose "
    "beside the others.",
    "Strengths are kinds with parameters: a set of each is a line. Intervals are not adjusted for the number of sets.",
)
_Sets = Mapping[str, pd.DataFrame]  # name of an intervention set -> its rows
_MANY = (
    f"Of more than {MAX_VALUES} sets those with equally many kinds are one line: their mean, in brackets the lowest "
    "and the highest set. Sets of all kinds, one kind and all but one also have a line each, where they are "
    f"{MAX_VALUES} or fewer."
)


def _of_images(sets: _Sets) -> _Sets:
    """Return the intervention sets that have no pairs of texts."""
    return {name: rows for name, rows in sets.items() if TEXT not in kinds_of(rows)}


def _of_texts(sets: _Sets) -> _Sets:
    """Return the sets with pairs of texts, and the largest set without; empty if no set has pairs of texts."""
    images = {name: rows for name, rows in _of_images(sets).items() if pairs_of(rows) == 1}
    texts = {name: rows for name, rows in sets.items() if TEXT in kinds_of(rows)}
    largest = max(images, key=lambda name: len(kinds_of(images[name])), default=None)
    beside = {largest: images[largest]} if largest is not None else {}
    return beside | texts if texts else {}


def _has_sets(method: Method) -> bool:
    """Return whether a method is CLIP-ICM, truncation or shrinkage as a whole, and no placebo."""
    ours = method.projection in (ICM, SHRINKAGE) and method.order != "released"
    return ours and not (method.is_control or method.placebo) and method == method.with_all_pairs


def _by_kinds(entry: Entry, of: Callable[[_Sets], _Sets]) -> _Lines:
    """Return a line for each intervention set. With more than `MAX_VALUES` sets, lines are merged as `_MANY` says."""
    sets = of(entry.selections.by_set(entry.method))
    every = frozenset().union(*map(kinds_of, sets.values()))
    places = {name: place_of(kinds_of(part), every, pairs_of(part)) for name, part in sets.items()}
    picks = entry.selections.picks(entry.method, entry.request.rule)
    values: dict[str, tuple[str, list[Value]]] = {}  # name of a set -> name in words, and its value
    by_size: dict[tuple[bool, float, int], list[str]] = {}
    for name in sorted(sets, key=lambda name: places[name]):
        part, share, kinds = sets[name], pairs_of(sets[name]), kinds_of(sets[name])
        times = _picked(picks, "intervention_set", name) if share == 1 else None
        values[name] = set_words(name, kinds, every, share), [_of_rows(entry, part, times)]
        by_size.setdefault((share < 1, share, len(kinds)), []).append(name)
    if len(values) <= MAX_VALUES:
        return [*values.values()]
    informative = [name for name in values if places[name][0] < OTHERS]
    shown = informative if len(informative) <= MAX_VALUES else []
    lines = [values[name] for name in shown]
    for (is_part, share, n), names in sorted(by_size.items()):
        own = [value for name in names for value in values[name][1]]
        pairs = f", {100 * share:g} % of the pairs" if is_part else ""
        if len(names) > 1:
            lines.append((f"{len(names)} sets of {n} kind{'' if n == 1 else 's'}{pairs}", own))
        elif names[0] not in shown:
            lines.append(values[names[0]])
    return lines


def _by_set(name: str, what: str, of: Callable[[_Sets], _Sets]) -> TableSpec[Sequence[Value]]:
    """Return the spec of a table with a line for each intervention set; the rule selects among the rows of this set."""

    def own(request: Request) -> Iterator[str]:
        yield from _ON_SETS
        every = (x.by_set(m) for _, x in request.results for m in x.parts if _has_sets(m))
        yield _MANY if any(len(of(sets)) > MAX_VALUES for sets in every) else ""

    values = partial(_by_kinds, of=of)
    return _ablation(name, what, "Interventions", values, _has_sets, own)


IMAGES = _by_set("ablation_interventions", "intervention set", _of_images)
# Sets with pairs of texts, compared with the largest set of image interventions.
TEXTS = _by_set("ablation_text", "interventions on images, on texts or on both", _of_texts)
