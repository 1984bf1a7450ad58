"""What methods remove of the energy and of the shift of class means, and whether that goes with what they gain."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.method.evaluation.selection import RULES
from reports.analysis.chosen import Selections
from reports.analysis.methods import ICM, SHRINKAGE, Method
from reports.analysis.options import Options
from reports.analysis.spans import CORRELATED, MIN_SETTINGS, MOVED, SHARES, GoesWith, correlations, picked
from reports.render.table import Cell, Column, Line, Table
from reports.tables import cells, words
from reports.tables.alike import Described, check_alike, common_rule
from reports.tables.blocks import block_of, blocks_of, line_of, table_of

NAME = "shift"
_RHO = "rho with the gain"
_COLUMNS = (
    Column("energy removed", "energy", "Removed"),
    Column("shift removed (sources)", "shift (sources)", "Removed"),
    Column("shift removed, to target †", "to target †", "Removed"),
    Column("C_d along the shift (sources)", "sources", "C_d along the shift", ""),
    Column("C_d along the shift, to target †", "to target †", "C_d along the shift", ""),
    Column("rho of the shift removed (sources)", "shift (sources)", _RHO, ""),
    Column("rho of shift removed / energy removed", "shift / energy", _RHO, ""),
    Column("rho of the shift removed, to target †", "to target †", _RHO, ""),
    Column("settings behind rho", "n", _RHO, ""),
)
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
_NO_SHARE = "the rows say nothing of it"
_NOT_MOVED = "no interventions, or rows that say nothing of them"
_NOT_OURS = "only of CLIP-ICM and shrinkage, without placebos and the released order"
_NO_RHO = f"fewer than {MIN_SETTINGS} settings in an environment, or rows that say nothing of it"


def build(
    described: Described, options: Options, rule: str | None = None, names: Mapping[str, str] | None = None
) -> Table | None:
    """Return methods, placebos and controls among them, by what they remove at what the rule picks.

    Args:
        described: settings of one data set that may share a table.
        options: what the reader asks for.
        rule: what chooses; by default what is fair.
        names: long name -> short name of methods, predictors and backbones.

    Returns:
        The table, a block for each backbone and predictor; None where fewer than two methods have shares.

    Raises:
        IcmBenchError: the settings may not share a table.
    """
    if not described or described[0][0].protocol_class.looks_at_target:
        return None
    check_alike(described, NAME)
    names, chosen = names or {}, RULES[common_rule(described, rule)].base

    def lines(parts: Described, predictor: str, _: str) -> list[Line]:
        selections = parts[0][1]
        shown = [m for m in _removing(selections) if block_of(m) == predictor]
        return [line for method in shown if (line := _line(selections, method, chosen, names))]

    blocks = blocks_of(described, names, lines, every=True)
    every = [cell for block in blocks for line in block.lines for cell in line.cells[len(SHARES) + len(MOVED) :]]
    own = [*_REMOVED, *([_DRAWS] if any(selections.draws for _, selections in described) else [])]
    own += _CORRELATED if any(cell.value is not None for cell in every) else []
    caption = f"{words.what(described)}: do the interventions span the shift? What methods remove of it (%)."
    return table_of(NAME, caption, _COLUMNS, blocks, described, chosen, options, own)


def _removing(selections: Selections) -> list[Method]:
    """Return the methods that could remove something of a shift, all draws of a placebo as one."""
    methods = [m for m in selections.parts if not (m.is_plain or m.imported)]
    return sorted([*methods, *selections.draws], key=lambda method: method.place)


def _line(selections: Selections, method: Method, rule: str, names: Mapping[str, str]) -> Line | None:
    """Return the line of a method; None where its rows say nothing of what it removes."""
    draws = selections.draws.get(method, [method])
    found = [picked(selections, draw, rule) for draw in draws]
    if not any(values["energy_removed"] is not None for values in found):
        return None
    trials = tuple(
        sorted({str(t) for draw in draws for t in selections.chosen_rows(draw, rule, ("trial_id",))["trial_id"]})
    )
    bound = cells.bound_by(rule, looks_at_target=False)
    own = [
        _share([values[name] for values in found], name, bound or name.endswith("target"), trials)
        for name in (*SHARES, *MOVED)
    ]
    return line_of(method, [*own, *_rhos(selections, method)], names)


def _share(values: Sequence[float | None], name: str, bound: bool, trials: tuple[str, ...]) -> Cell:
    """Return a share in percent, or how much is moved as it is; of several draws the mean, in words with its range."""
    factor, decimals = (100.0, 1) if name in SHARES else (1.0, 2)
    known = [factor * value for value in values if value is not None]
    if not known:
        return Cell(note=_NO_SHARE if name in SHARES else _NOT_MOVED, bound=bound)
    mean = float(np.mean(known))
    text = None if len(values) == 1 else cells.range_text(known, decimals)
    return Cell(value=mean, bound=bound, decimals=decimals, text=text, trials=trials)


def _rhos(selections: Selections, method: Method) -> list[Cell]:
    """Return the rank correlations of a method with much to choose, and the number of settings behind them."""
    of_ours = method.projection in (ICM, SHRINKAGE) and not method.placebo and method.order != "released"
    found = correlations(selections.parts[method]) if of_ours else {}
    gap = _NO_RHO if of_ours else _NOT_OURS
    fair = found.get(CORRELATED[0])
    n = Cell(value=float(fair.n), decimals=0) if fair else Cell(note=gap)
    return [*(_rho(found.get(name), name.endswith("target"), gap) for name in CORRELATED), n]


def _rho(one: GoesWith | None, bound: bool, gap: str) -> Cell:
    if one is None or np.isnan(one.rho):
        return Cell(note=gap if one is None else "share or accuracy do not vary", bound=bound)
    single = [rho for rho in one.single if not np.isnan(rho)]
    text = f"{one.rho:+.2f} [{min(single):+.2f}, {max(single):+.2f}]"
    return Cell(value=one.rho, bound=bound, signed=True, decimals=2, text=text)
