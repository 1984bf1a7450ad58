"""What methods remove of the energy and of the shift of class means, and whether that goes with what they gain."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from reports.analysis.methods import ICM, SHRINKAGE
from reports.analysis.spans import MIN_SETTINGS, SHARES, GoesWith, correlations, picked
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells
from reports.tables.by_method import Entry, block_of, by_method, line_of
from reports.tables.spec import Request, TableSpec, Values, results

_RHO = "rho with the gain"
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
_N = Column("settings behind rho", "n", _RHO, "")
_REMOVED = (
    "Removed: percent of the second moment of the embeddings (energy), and of the shift, that is dropped or shrunk: "
    "z - G'z.",
    "G has the maps of images and texts together.",
    "Shift: of class means between environments, less what few images make.",
    "(sources) is the shift between source environments; to target † that from them to the held-out one. The latter "
    "needs its labels, at which no rule looks: a bound (†), no result.",
    "Shares are means over held-out environments, seeds and folds, at what the rule picks.",
    "C_d along the shift: how much interventions, or their placebo, move what shifts; 1 as the average direction.",
)
_DRAWS = "Of several draws of a placebo: the mean, in brackets the lowest and the highest draw."
_CORRELATED = (
    "rho: rank correlation (Spearman) over settings (lambda, rank, set, nuisance) of the share that is removed with "
    "accuracy minus plain.",
    "Ranks are within each held-out environment, all together; in brackets the lowest and the highest environment.",
    "n counts each environment's settings. Settings share images and fits, so there is no p-value.",
)
_NOT_OURS = "only of CLIP-ICM and shrinkage, without placebos and the released order"
_NO_RHO = f"fewer than {MIN_SETTINGS} settings in an environment, or rows that say nothing of it"


@dataclass(frozen=True)
class _Removed:
    """What a method removes: shares of each draw (one draw of what is no placebo), and how they go with the gain."""

    shares: list[dict[str, float | None]]
    trials: tuple[str, ...]
    rhos: dict[str, GoesWith]
    gap: str


def _lines(entries: list[Entry]) -> Iterator[tuple[Line, _Removed]]:
    """Yield the methods whose rows say what they remove, all draws of a placebo as one."""
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


def _columns(request: Request) -> Iterator[Values[_Removed]]:
    yield from (Values(column, partial(_share, name, request.bound)) for name, column in _SHARES.items())
    yield from (Values(column, partial(_rho, name)) for name, column in _RHOS.items())
    yield Values(_N, _n)


def _share(name: str, bound: bool, of: _Removed) -> Cell:
    """Return a share in percent, or how much is moved as it is; of several draws the mean, in words with its range."""
    bound = bound or name.endswith("target")
    factor, decimals = (100.0, 1) if name in SHARES else (1.0, 2)
    known = [factor * value for values in of.shares if (value := values[name]) is not None]
    if not known:
        gap = "the rows say nothing of it" if name in SHARES else "no interventions, or rows that say nothing of them"
        return Cell(note=gap, bound=bound)
    text = None if len(of.shares) == 1 else cells.range_text(known, decimals)
    return Cell(value=float(np.mean(known)), bound=bound, decimals=decimals, text=text, trials=of.trials)


def _rho(name: str, of: _Removed) -> Cell:
    """Return the rank correlation of a share with accuracy, of a method with much to choose."""
    one, bound = of.rhos.get(name), name.endswith("target")
    if one is None or np.isnan(one.rho):
        return Cell(note=of.gap if one is None else "share or accuracy do not vary", bound=bound)
    single = [rho for rho in one.single if not np.isnan(rho)]
    text = f"{one.rho:+.2f} [{min(single):+.2f}, {max(single):+.2f}]"
    return Cell(value=one.rho, bound=bound, signed=True, decimals=2, text=text)


def _n(of: _Removed) -> Cell:
    fair = of.rhos.get("shift_removed_sources")
    return Cell(value=float(fair.n), decimals=0) if fair else Cell(note=of.gap)


def _notes(request: Request, table: Table) -> Iterator[str]:
    yield from _REMOVED
    yield _DRAWS if any(selections.draws for _, selections in request.described) else ""
    first = len(_SHARES)
    if any(cell.value is not None for _, line in table.lines() for cell in line.cells[first:]):
        yield from _CORRELATED


TABLE = TableSpec(
    "shift",
    lambda request: f"{request.what}: do the interventions span the shift? What methods remove of it (%).",
    by_method(_lines, every=True),
    _columns,
    _notes,
    "data set",
    results,
    rule="base",
)
