"""Tables behind mean accuracies: `behind`, `selection` and `shift`.

`behind` has further metrics, `selection` the accuracy under each selection rule, and `shift` the share of the shift
between environments that each method removes.
"""
# A new table also needs an entry in `TABLES` of reports/tables/all.py.

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmark.method.evaluation.metrics import ACCURACY, ECE, SCORED, WORST_ENVIRONMENT, Metric
from benchmark.method.evaluation.selection import RULES, SOURCE_RULES
from reports.analysis import metrics
from reports.analysis.methods import ICM, SHRINKAGE
from reports.analysis.metrics import MIN_CLASS_IMAGES, ORACLE, Metrics, SelectionCost, chance_and_majority
from reports.analysis.spans import MIN_SETTINGS, SHARES, GoesWith, correlations, picked
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells
from reports.tables.by_method import Entry, block_of, by_method, line_of
from reports.tables.spec import Request, TableSpec, Values, source_fits
from reports.text.captions import oracle_words

_READING = (
    "Means over held-out environments, then seeds, all folds of a seed together. Sources: on images of the source "
    "environments that the fit has not seen. Worst class: the lowest accuracy "
    f"of a class in one environment, over all answers together, among those with {MIN_CLASS_IMAGES} different test "
    "images (n) or more. ECE: expected calibration error in 15 bins, in %; scaled with the temperature fitted on "
    "validation images of the sources."
)
_NO_ECE = "no likelihood, or no calibration at what was picked"
_NO_RULE = "not all that is held out has answers under this rule"


_RHO = "rho with the gain"
# Column of rows -> column of the table. `SHARES` and `MOVED` of reports/analysis/spans.py list the same column names.
_SHARES = {
    "energy_removed": Column("energy removed", "energy", "Removed"),
    "shift_removed_sources": Column("shift removed (sources)", "shift (sources)", "Removed"),
    "shift_removed_target": Column("shift removed, to target †", "to target †", "Removed"),
    "shift_moved_sources": Column("C_d along the shift (sources)", "sources", "C_d along the shift", ""),
    "shift_moved_target": Column("C_d along the shift, to target †", "to target †", "C_d along the shift", ""),
}
_RHOS = {
    "shift_removed_sources": Column("rho of the shift removed (sources)", "shift (sources)", _RHO, ""),
    "shift_removed_relative": Column("rho of shift removed / energy removed", "shift / energy", _RHO, ""),
    "shift_removed_target": Column("rho of the shift removed, to target †", "to target †", _RHO, ""),
}
_REMOVED = (
    "Removed: percent of the second moment of the embeddings (energy), and of the shift, that is dropped or shrunk: "
    "z - G'z.",
    "G combines the maps of images and texts. Above 100 %: G lengthens embeddings along some directions.",
    "Shift: differences of class means between environments, less their sampling noise.",
    "(sources): shift between source environments; to target †: shift from them to the held-out one. The latter uses "
    "its labels, which no rule uses: a bound (†), not a result.",
    "Shares are means over held-out environments, seeds and folds, at the rule's picks.",
    "C_d along the shift: displacement by interventions, or by their placebo; 1 for an average direction.",
)
_DRAWS = "Several draws of a placebo: their mean, in brackets the lowest and the highest draw."
_CORRELATED = (
    "rho: rank correlation (Spearman) of the removed share with accuracy minus plain, over settings (lambda, rank, "
    "set, nuisance).",
    "Ranks are taken within each held-out environment; in brackets the lowest and the highest environment.",
    "n counts each environment's settings. Settings share images and fits, so there is no p-value.",
)
_NOT_OURS = "only for CLIP-ICM and shrinkage, without placebos and the released order"
_NOT_MOVED = "no interventions, or rows without this share"
_NO_RHO = f"fewer than {MIN_SETTINGS} settings in an environment, or rows without this share"


def _lines(entries: list[Entry]) -> Iterator[tuple[Line, Metrics]]:
    """Yield a line with its metrics for each method that has results on all held-out environments."""
    for entry in entries:
        every = metrics.metrics_of(entry.selections, entry.request.rule)
        yield from ((line_of(entry), found) for found in every if found.method == entry.method)


def _columns(request: Request) -> Iterator[Values[Metrics]]:
    bound, with_error = request.bound, request.options.plus_minus != "seeds"

    def mean(metric: Metric, m: Metrics) -> Cell:
        interval = m.intervals.get(metric.key) if with_error else None
        error = interval.plus_minus if interval else None
        return cells.of_metric(m.of(metric), metric, bound=bound, **({"error": 100 * error} if error else {}))

    def worst_environment(m: Metrics) -> Cell:
        lowest = m.of(WORST_ENVIRONMENT) or 0.0
        return Cell(value=lowest, text=f"{lowest:.1f} ({m.worst_environment})", bound=bound)

    def worst_class(m: Metrics) -> Cell:
        if (one := m.worst_class) is None:
            return Cell(note=f"no class has {MIN_CLASS_IMAGES} test images in an environment", bound=bound)
        text = f"{one.accuracy:.1f} ({one.name}, {one.held_out}, n = {one.n:,})"
        return Cell(value=one.accuracy, n_images=float(one.n), text=text, bound=bound)

    accuracy, *others = (
        Values(
            Column(m.heading.replace("_", " "), m.title[:1].upper() + m.title[1:], unit="%" if m.percent else ""),
            partial(mean, m),
        )
        for m in (ACCURACY, *metrics.further(request.selections.metrics))
    )
    yield accuracy
    sources = Column("source accuracy", "Sources")
    yield Values(sources, lambda m: cells.known(m.source_accuracy, "no such score", bound=bound))
    yield from others
    yield Values(Column("worst environment", "Worst environment"), worst_environment)
    yield Values(Column("worst class", "Worst class (n)"), worst_class)
    ece = Column("expected calibration error", "ECE")
    yield Values(ece, lambda m: cells.known(m.of(ECE), _NO_ECE, bound=bound))
    scaled = Column("expected calibration error, scaled", "ECE, scaled")
    yield Values(scaled, lambda m: cells.known(m.ece_scaled, _NO_ECE, bound=bound))


def _notes(request: Request, _: Table) -> Iterator[str]:
    classes, majority = chance_and_majority(request.selections)
    yield f"Chance is {classes:.1f} %; always predicting the most frequent class (majority) gives {majority:.1f} %."
    yield _READING
    every = [m for _, x in request.results for m in metrics.metrics_of(x, request.rule)]
    if any(m.of(metric) is not None for m in every for metric in SCORED):
        yield "NLL (in nats) and AUROC (each class against the rest, mean): of the softmax of scores."


def _caption(request: Request) -> str:
    chance = "Chance {:.1f}, majority {:.1f}.".format(*chance_and_majority(request.selections))
    return f"{request.what}: what lies behind the mean accuracies (%). {chance}"


TABLE = TableSpec("behind", _caption, by_method(_lines), _columns, _notes, "data set")


def _with_choice(entries: list[Entry]) -> Iterator[tuple[Line, SelectionCost]]:
    """Yield a line with its accuracy under each rule, for each method with more than one configuration."""
    costs = {one.method: one for one in metrics.selection_costs(entries[0].selections)}
    return ((line_of(entry, False), costs[entry.method]) for entry in entries if entry.method in costs)


def _by_rule(_: Request) -> Iterator[Values[SelectionCost]]:
    def accuracy(rule: str, cost: SelectionCost) -> Cell:
        value = cost.accuracies.get(rule)
        return Cell(value=value, note=_NO_RULE if value is None else None, bound=RULES[rule].looks_at_target)

    def gap(rule: str, cost: SelectionCost) -> Cell:
        points, error = cost.gaps.get(rule, (None, None))
        return Cell(value=points, error=error, signed=True, bound=True, note=_NO_RULE if points is None else None)

    for rule, known in RULES.items():
        yield Values(Column(f"{rule}{' †' if known.looks_at_target else ''}"), partial(accuracy, rule))
    for rule in SOURCE_RULES:
        yield Values(Column(f"{ORACLE} − {rule} †", unit="points"), partial(gap, rule))


def _notes_on_rules(request: Request, _: Table) -> Iterator[str]:
    yield (
        f"† uses target labels: not a result. oracle: {oracle_words(request.setting)}. ceiling: highest reported "
        "accuracy, a bound that is biased upwards. The gap to the oracle, which may be negative, estimates the value "
        "of target labels, with its standard error."
    )
    if (metric := request.selections.metric).needs != "correct":
        yield f"oracle and ceiling use accuracy: rows keep no {metric.needs} for {metric.title} at their picks."


SELECTION = TableSpec(
    "selection",
    lambda request: f"{request.what}: accuracy (%) by what each selection rule chooses, and its gap to the oracle.",
    by_method(_with_choice),
    _by_rule,
    _notes_on_rules,
    "data set",
    settings=source_fits,
    several_rules=True,
)


@dataclass(frozen=True)
class _Removed:
    """Shares that a method removes. `shares` has a mapping for each draw of a placebo, for other methods a single one.

    `rhos` has the correlations of the shares with accuracy. `gap` says why correlations are missing.
    """

    shares: list[dict[str, float | None]]
    trials: tuple[str, ...]
    rhos: dict[str, GoesWith]
    gap: str


def _removing(entries: list[Entry]) -> Iterator[tuple[Line, _Removed]]:
    """Yield a line for each method whose rows have removed shares. All draws of a placebo are one line."""
    request, selections = entries[0].request, entries[0].selections
    own = [m for m in selections.draws if block_of(m) == block_of(entries[0].method)]
    for entry in sorted([*entries, *(replace(entries[0], method=m) for m in own)], key=lambda one: one.method.place):
        method, draws = entry.method, selections.draws.get(entry.method, [entry.method])
        if method.is_plain or method.imported:
            continue
        shares = [picked(selections, draw, request.rule) for draw in draws]
        if all(values["energy_removed"] is None for values in shares):
            continue
        ids = {str(t) for d in draws for t in selections.chosen_rows(d, request.rule, ("trial_id",))["trial_id"]}
        is_ours = method.projection in (ICM, SHRINKAGE) and not method.placebo and method.order != "released"
        rhos = correlations(selections.parts[method]) if is_ours else {}
        yield line_of(entry, False), _Removed(shares, tuple(sorted(ids)), rhos, _NO_RHO if is_ours else _NOT_OURS)


def _removed_columns(request: Request) -> Iterator[Values[_Removed]]:
    def share(name: str, of: _Removed) -> Cell:
        """Return a removed share in percent, or a relative displacement. Several draws give their mean and range."""
        bound = request.bound or name.endswith("target")
        factor, decimals = (100.0, 1) if name in SHARES else (1.0, 2)
        known = [factor * value for values in of.shares if (value := values[name]) is not None]
        if not known:
            gap = "the rows lack this share" if name in SHARES else _NOT_MOVED
            return Cell(note=gap, bound=bound)
        text = None if len(of.shares) == 1 else cells.range_text(known, decimals)
        return Cell(value=float(np.mean(known)), bound=bound, decimals=decimals, text=text, trials=of.trials)

    def rho(name: str, of: _Removed) -> Cell:
        """Return the rank correlation of a removed share with accuracy over settings."""
        one, bound = of.rhos.get(name), name.endswith("target")
        if one is None or np.isnan(one.rho):
            return Cell(note=of.gap if one is None else "share or accuracy do not vary", bound=bound)
        single = [value for value in one.single if not np.isnan(value)]
        text = f"{one.rho:+.2f} [{min(single):+.2f}, {max(single):+.2f}]"
        return Cell(value=one.rho, bound=bound, signed=True, decimals=2, text=text)

    def n(of: _Removed) -> Cell:
        fair = of.rhos.get("shift_removed_sources")
        return Cell(value=float(fair.n), decimals=0) if fair else Cell(note=of.gap)

    yield from (Values(column, partial(share, name)) for name, column in _SHARES.items())
    yield from (Values(column, partial(rho, name)) for name, column in _RHOS.items())
    yield Values(Column("settings behind rho", "n", _RHO, ""), n)


def _removed_notes(request: Request, table: Table) -> Iterator[str]:
    yield from _REMOVED
    yield _DRAWS if any(selections.draws for _, selections in request.results) else ""
    if any(cell.value is not None for _, line in table.lines() for cell in line.cells[len(_SHARES) :]):
        yield from _CORRELATED


SHIFT = TableSpec(
    "shift",
    lambda request: f"{request.what}: do the interventions span the shift? Shares that methods remove (%).",
    by_method(_removing, every=True),
    _removed_columns,
    _removed_notes,
    "data set",
    source_fits,
)
